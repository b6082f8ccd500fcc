/** Options of other programs that people expect here, and what is to be done instead. */
const instead: Readonly<Record<string, string>> = {
  'trust-remote-code':
    "rm-engine never runs a model's own code: it computes the supported families itself (docs/families.md). Leave it out.",
  'push-to-hub': 'rm-engine uploads nothing. Upload the finished folder with: hf upload ORG/NAME OUT',
  'load-in-4bit':
    "rm-engine reads a model's weights as they are stored. Give a quantised model as a .gguf file.",
  'load-in-8bit':
    "rm-engine reads a model's weights as they are stored. Give a quantised model as a .gguf file.",
  device: 'Choose a GPU by part of its name with --adapter (rm-engine doctor lists them).',
  'device-map': 'Choose a GPU by part of its name with --adapter (rm-engine doctor lists them).',
  token: 'Set HF_TOKEN in the environment: a token in the command line is seen by others.',
  'hf-token': 'Set HF_TOKEN in the environment: a token in the command line is seen by others.',
  'batch-size': 'Give the tokens computed at a time with --batch-tokens.',
  'num-fewshot': 'Give the number of examples with --fewshot.',
  'model-args': 'Give the model itself: a folder, a .gguf file or org/name.',
  'log-samples': 'Give the file to write with --samples FILE.',
  'repetition-penalty': 'Give it with --repeat-penalty.',
  'max-new-tokens': 'Give it with --max-tokens.',
};

/** What to do instead of an option of another program: "--trust_remote_code", "--device=cuda:0". */
export function insteadOf(option: string): string | undefined {
  const name = option.replace(/^--?/, '').split('=')[0]!.toLowerCase().replaceAll('_', '-');
  return Object.hasOwn(instead, name) ? instead[name] : undefined;
}
