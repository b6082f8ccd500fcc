const at = (file: string): string => new URL(`${file}.js`, import.meta.url).href;

/** The modules of all targets by name: what comes before a slash names the targets that begin with it together. */
export const targets: Readonly<Record<string, string>> = {
  safetensors: at('safetensors'),
  index: at('shardIndex'),
  config: at('config'),
  gguf: at('gguf'),
  tokenizer: at('tokenizer'),
  'tokenizer/settings': at('tokenizerSettings'),
  template: at('template'),
  'template/task': at('taskTemplate'),
  parquet: at('parquet'),
  jsonl: at('jsonl'),
  'jsonl/array': at('jsonArray'),
  'jsonl/text': at('plainText'),
  yaml: at('optionsYaml'),
  'yaml/task': at('taskYaml'),
  statistics: at('statistics'),
  checkpoint: at('checkpoint'),
  'heal-checkpoint': at('healCheckpoint'),
  'caches/tuning': at('tuning'),
  'caches/answers': at('answers'),
  'caches/hub': at('hubCache'),
  'caches/rows': at('comparisonRows'),
  report: at('report'),
};

/** The targets that a word on the command line means. */
export const targetsNamed = (word: string): string[] =>
  Object.keys(targets).filter(name => word === 'all' || name === word || name.startsWith(`${word}/`));
