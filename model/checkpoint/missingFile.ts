import { open, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { RmError } from '../../engine/index.js';
import { notTheFile } from '../files/notTheFile.js';

/** Why a folder lacks a file, told from what else it holds, and what to do. */
interface Reason {
  /** Completes "FOLDER: has no config.json: ...". */
  readonly problem: string;
  readonly fix: string;
}

/** Something that a folder may hold instead of a wanted file: its name, and what to do with it. */
interface Instead {
  readonly name: RegExp;
  readonly problem: (name: string) => string;
  readonly fix: (path: string, folder: string) => string;
}

const inTransformers = (folder: string, kind: string): string =>
  `Convert in Python with transformers: ${kind}.from_pretrained("${folder}").save_pretrained("${folder}")`;
const download = 'Download the files for transformers: config.json, tokenizer.json and model*.safetensors.';

const instead = (name: RegExp, problem: string, fix: string | Instead['fix']): Instead => ({
  name,
  problem: file => problem.replace('$', file),
  fix: typeof fix === 'string' ? () => fix : fix,
});

const unfinished = instead(
  /\.(incomplete|part|crdownload|tmp)$|^\._?____temp$/,
  'a download was interrupted ($)',
  'Run the download again: it continues where it stopped.',
);
const adapter = instead(
  /^adapter_(config\.json|model\.(safetensors|bin))$/,
  'it holds an adapter (LoRA), not a model ($)',
  'Merge it into its base model: peft, model.merge_and_unload().save_pretrained(folder).',
);
const gguf = instead(
  /\.gguf$/i,
  'there is a GGUF file ($)',
  path => `Give the path of the file itself: ${path}`,
);
const inParts = [
  instead(
    /^(zero_to_fp32\.py|global_step\d+)$/,
    'it is a checkpoint of DeepSpeed ($)',
    'Make weights of it: python zero_to_fp32.py FOLDER OUT (with its option for safetensors).',
  ),
  instead(
    /\.distcp$|^pytorch_model_fsdp/,
    'it is a sharded checkpoint of FSDP ($)',
    'Merge it: accelerate merge-weights FOLDER OUT',
  ),
];
const native = [
  instead(
    /^consolidated.*\.pth$/,
    "it has Meta's own format ($)",
    `${download} Or convert these: convert_llama_weights_to_hf.py of transformers.`,
  ),
  instead(/^consolidated.*\.safetensors$/, "it has Mistral's own format ($)", download),
  instead(/^params\.json$/, "it has Meta's or Mistral's own format ($)", download),
];
const archive = instead(
  /\.(zip|tar|tgz|gz|zst|xz|bz2|7z|rar)$/i,
  'there is an archive ($)',
  'Unpack it first.',
);
const pytorch = instead(
  /\.(bin|bin\.index\.json|pt|pth|ckpt)$/,
  'there are PyTorch weights only ($)',
  (_, folder) => inTransformers(folder, 'AutoModelForCausalLM'),
);

/** What to look for where the weights are missing, the most telling first. */
const forWeights: readonly Instead[] = [
  unfinished,
  instead(
    /^model-\d+-of-\d+\.safetensors$/,
    'there are shards without their index, model.safetensors.index.json ($)',
    'Download the index, or all of the model again.',
  ),
  ...native,
  instead(
    /^(?!adapter_).+\.safetensors(\.index\.json)?$/,
    'there are weights under another name ($)',
    path =>
      `Rename ${path} to model.safetensors (an index to model.safetensors.index.json) if it has the weights of this model.`,
  ),
  gguf,
  adapter,
  ...inParts,
  pytorch,
  instead(
    /\.(h5|keras)$|^tf_model/,
    'there are TensorFlow weights only ($)',
    'Convert them with transformers 4: from_pretrained(folder, from_tf=True).save_pretrained(folder), or download the safetensors files.',
  ),
  instead(
    /\.msgpack$/,
    'there are Flax weights only ($)',
    'Convert them with transformers 4: from_pretrained(folder, from_flax=True).save_pretrained(folder), or download the safetensors files.',
  ),
  instead(
    /\.(onnx|onnx_data|tflite|mlmodel|mlpackage|npz|engine|ort)$/,
    'there are weights of another runtime only ($)',
    'Download the safetensors files that they were made from.',
  ),
  archive,
];

const forConfig: readonly Instead[] = [
  unfinished,
  adapter,
  instead(/^model_index\.json$/, 'it is a pipeline of diffusers ($)', 'Give the folder of a language model.'),
  ...native,
  gguf,
  ...inParts,
  pytorch,
  archive,
];

const forTokenizer: readonly Instead[] = [
  unfinished,
  instead(
    /^tokenizer\.model(\.v\d+(m\d+)?)?$|^(spiece|spm|sentencepiece\.bpe)\.model$/,
    'it has a SentencePiece or tiktoken model instead ($)',
    (_, folder) => inTransformers(folder, 'AutoTokenizer'),
  ),
  instead(/^tekken\.json$/, "it has Mistral's tokenizer instead ($)", (_, folder) =>
    inTransformers(folder, 'AutoTokenizer'),
  ),
  instead(/\.tiktoken$/, 'it has a tiktoken vocabulary instead ($)', (_, folder) =>
    inTransformers(folder, 'AutoTokenizer'),
  ),
  instead(
    /^(vocab\.json|merges\.txt|vocab\.txt)$/,
    'it has a vocabulary in the old form instead ($)',
    (_, folder) => inTransformers(folder, 'AutoTokenizer'),
  ),
];

const generalFix =
  'Give the folder of a Hugging Face model: config.json, tokenizer.json and *.safetensors files.';

/** The error for a file that a model's folder lacks. @param file its name, or what it is: "model.safetensors or its index". */
export async function missingFile(folder: string, file: string): Promise<RmError> {
  const stats = await stat(folder).catch(() => undefined);
  const error = (problem: string, fix: string) =>
    new RmError('CHECKPOINT_MISSING', `${folder}: ${problem}`, fix);
  if (!stats) return error('no such file or folder', 'Check the path of the model.');
  if (!stats.isDirectory()) return error(...(await aboutFile(folder)));
  const { problem, fix } = await reasonOf(folder, file);
  return error(`has no ${file}: ${problem}`, fix);
}

async function reasonOf(folder: string, file: string): Promise<Reason> {
  const list = (path: string) => readdir(path).catch(() => [] as string[]);
  // huggingface_hub keeps what it has not finished there.
  const parts = (await list(join(folder, '.cache', 'huggingface', 'download'))).filter(name =>
    name.endsWith('.incomplete'),
  );
  const names = [...(await list(folder)).sort(), ...parts];
  if (names.length === 0)
    return { problem: 'the folder is empty', fix: 'Download or copy the model into it.' };
  if (names.includes('snapshots') && names.includes('blobs')) {
    return {
      problem: "it is a model's folder in the Hugging Face cache",
      fix: 'Give the name of the model (org/name), or the folder of a commit in snapshots/.',
    };
  }
  const table = file === 'config.json' ? forConfig : file === 'tokenizer.json' ? forTokenizer : forWeights;
  for (const { name, problem, fix } of table) {
    const found = names.find(other => name.test(other));
    if (found !== undefined) return { problem: problem(found), fix: fix(join(folder, found), folder) };
  }
  const within = await modelsWithin(folder, names);
  if (within.length > 0 && file !== 'tokenizer.json') {
    return {
      problem: `models are in its folders (${within.slice(0, 3).join(', ')}${within.length > 3 ? ', ...' : ''})`,
      fix: `Give the path of one of them: ${join(folder, within.at(-1)!)}`,
    };
  }
  if (file !== 'tokenizer.json') return { problem: 'there is nothing else of a model', fix: generalFix };
  return {
    problem: 'there is no tokenizer of any kind',
    fix: "Copy the tokenizer's files (tokenizer.json, tokenizer_config.json) from the model that this one was made from.",
  };
}

/** Folders within with a config.json: checkpoint-500 of a training, by number, or others. */
async function modelsWithin(folder: string, names: readonly string[]): Promise<string[]> {
  const holds = await Promise.all(
    names.map(name =>
      stat(join(folder, name, 'config.json')).then(
        stats => stats.isFile(),
        () => false,
      ),
    ),
  );
  const number = (name: string) => Number(/\d+$/.exec(name)?.[0] ?? -1);
  return names.filter((_, i) => holds[i]).sort((a, b) => number(a) - number(b));
}

/** What a file is that was given for a model's folder, and what to give. */
async function aboutFile(path: string): Promise<[problem: string, fix: string]> {
  const name = basename(path);
  const folder = dirname(path);
  if (archive.name.test(name)) return ['is an archive, not the folder of a model', 'Unpack it first.'];
  if (/\.(safetensors|json|jinja|model)$/.test(name)) {
    return ["is one of a model's files, not its folder", `Give the folder that holds it: ${folder}`];
  }
  if (pytorch.name.test(name))
    return ['holds PyTorch weights, not safetensors', inTransformers(folder, 'AutoModelForCausalLM')];
  const { problem, fix } = notTheFile(await beginningOf(path)) ?? {
    problem: 'is a file, not the folder of a model',
    fix: generalFix,
  };
  return [problem, fix];
}

/** A file's first bytes as latin1; empty if they cannot be read. */
async function beginningOf(path: string): Promise<string> {
  const file = await open(path).catch(() => undefined);
  if (!file) return '';
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(64), 0, 64, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    await file.close();
  }
}
