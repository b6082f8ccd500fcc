import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RmError } from '../../engine/index.js';
import { openSafetensors } from '../../model/checkpoint/safetensors.js';
import { openModelSource, readArchitecture } from '../../model/index.js';
import { dataPath, temporaryFolder } from '../support.js';

// Folders that are no model as rm-engine reads it: each is named, with what to do. Takes no time.

const given = dataPath('checkpoints', 'tied-copy');

/** What is said of a folder with these files (empty unless a content is given), after a copy of config.json if `config`. */
async function said(
  files: readonly (string | [name: string, content: string])[],
  { config = false, of = readArchitecture as (path: string) => Promise<unknown>, at = '' } = {},
): Promise<string> {
  using folder = temporaryFolder();
  if (config) copyFileSync(join(given, 'config.json'), join(folder.path, 'config.json'));
  for (const file of files) {
    const [name, content] = typeof file === 'string' ? [file, ''] : file;
    mkdirSync(join(folder.path, dirname(name)), { recursive: true });
    writeFileSync(join(folder.path, name), content);
  }
  const error = await of(join(folder.path, at)).then(
    () => assert.unreachable(),
    (thrown: unknown) => thrown,
  );
  assert.instance(error, RmError, String(error));
  const { message, fix } = error as RmError;
  return `${message} | ${fix}`.replaceAll(folder.path, 'FOLDER');
}

const weights = { config: true, of: openSafetensors as (path: string) => Promise<unknown> };
const checkpoint = {
  config: true,
  of: async (path: string) => await (await openModelSource(path)).openCheckpoint(),
};
const tokenizer = {
  config: true,
  of: async (path: string) => {
    throw await (await openModelSource(path)).missing('tokenizer.json');
  },
};

const cases: [name: string, saying: () => Promise<string>, words: RegExp][] = [
  ['nothing there', () => said([], { at: 'nowhere' }), /nowhere: no such file or folder/],
  ['an empty folder', () => said([]), /has no config\.json: the folder is empty \| Download or copy/],
  [
    'checkpoints inside',
    () => said(['checkpoint-500/config.json', 'checkpoint-1000/config.json', 'trainer_state.json']),
    /models are in its folders \(checkpoint-500, checkpoint-1000\) \| .*FOLDER\/checkpoint-1000$/,
  ],
  [
    'only GGUF files',
    () => said(['a.Q4_K_M.gguf', 'README.md']),
    /there is a GGUF file \(a\.Q4_K_M\.gguf\) \| Give the path of the file itself: FOLDER\/a\.Q4_K_M\.gguf/,
  ],
  [
    'an adapter',
    () => said(['adapter_config.json', 'adapter_model.safetensors']),
    /an adapter \(LoRA\), not a model .*merge_and_unload/,
  ],
  [
    "Meta's own format",
    () => said(['consolidated.00.pth', 'params.json', 'tokenizer.model']),
    /Meta's own format \(consolidated\.00\.pth\)/,
  ],
  [
    "Mistral's own format",
    () => said(['consolidated.safetensors', 'params.json', 'tekken.json']),
    /Mistral's own format/,
  ],
  ['diffusers', () => said(['model_index.json', 'unet/config.json']), /pipeline of diffusers/],
  [
    'the cache folder of a model',
    () => said(['snapshots/abc/config.json', 'blobs/x', 'refs/main']),
    /folder in the Hugging Face cache \| Give the name/,
  ],
  ['an archive', () => said(['model.tar.gz']), /there is an archive \(model\.tar\.gz\) \| Unpack it first/],
  [
    'a stopped download',
    () => said(['config.json.incomplete']),
    /download was interrupted .* \| Run the download again/,
  ],
  [
    'a stopped hf download',
    () => said(['.cache/huggingface/download/x.incomplete'], weights),
    /download was interrupted \(x\.incomplete\)/,
  ],
  [
    'a pointer of Git LFS',
    () => said([['config.json', 'version https://git-lfs.github.com/spec/v1\noid sha256:0\n']]),
    /config\.json is a Git LFS pointer.* \| .*git lfs pull/,
  ],
  ['nothing of a model', () => said(['notes.txt']), /nothing else of a model/],
  [
    'PyTorch weights',
    () => said(['pytorch_model-00001-of-00002.bin'], weights),
    /PyTorch weights only .* \| Convert in Python .*AutoModelForCausalLM\.from_pretrained\("FOLDER"\)/,
  ],
  ['TensorFlow weights', () => said(['tf_model.h5'], weights), /TensorFlow weights only .*transformers 4/],
  ['Flax weights', () => said(['flax_model.msgpack'], weights), /Flax weights only/],
  ['ONNX weights', () => said(['model.onnx'], weights), /another runtime only/],
  [
    'a variant',
    () => said(['model.fp16.safetensors'], weights),
    /weights under another name \(model\.fp16\.safetensors\) \| Rename/,
  ],
  [
    'shards without index',
    () => said(['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'], weights),
    /shards without their index/,
  ],
  [
    'DeepSpeed',
    () => said(['zero_to_fp32.py', 'global_step500/x.pt', 'latest'], weights),
    /DeepSpeed .*zero_to_fp32\.py FOLDER OUT/,
  ],
  ['FSDP', () => said(['__0_0.distcp'], weights), /FSDP .*merge-weights/],
  ['weights inside', () => said(['best/config.json'], weights), /models are in its folders \(best\)/],
  [
    'SentencePiece',
    () => said(['tokenizer.model'], tokenizer),
    /SentencePiece or tiktoken model instead .*AutoTokenizer\.from_pretrained/,
  ],
  ["Mistral's tokenizer", () => said(['tekken.json'], tokenizer), /Mistral's tokenizer instead/],
  ['the old form', () => said(['vocab.json', 'merges.txt'], tokenizer), /vocabulary in the old form instead/],
  ['tiktoken', () => said(['qwen.tiktoken'], tokenizer), /tiktoken vocabulary instead/],
  ['no tokenizer', () => said([], tokenizer), /no tokenizer of any kind \| Copy/],
  [
    'a weight file',
    () => said(['model.safetensors'], { at: 'model.safetensors' }),
    /one of a model's files, not its folder \| Give the folder that holds it: FOLDER/,
  ],
  [
    'a config file',
    () => said([], { ...checkpoint, at: 'config.json' }),
    /one of a model's files, without the others \| Give the folder/,
  ],
  [
    'a config file in place of a tokenizer',
    () => said([], { ...tokenizer, at: 'config.json' }),
    /one of a model's files/,
  ],
  ['a PyTorch file', () => said(['m.bin'], { at: 'm.bin' }), /holds PyTorch weights/],
  ['a zip file', () => said(['m.zip'], { at: 'm.zip' }), /is an archive/],
  [
    'a GGUF file under another name',
    () => said([['m.q4', 'GGUF\x03\0\0\0']], { at: 'm.q4' }),
    /is a GGUF file \| Give it a name that ends in \.gguf/,
  ],
  ['some other file', () => said(['m.dat'], { at: 'm.dat' }), /is a file, not the folder of a model/],
];

for (const [name, saying, words] of cases) test(name, async () => assert.match(await saying(), words));

test('an index whose shards are gone while others are there', async () => {
  using folder = temporaryFolder();
  const path = (name: string) => join(folder.path, name);
  const shard = (n: number, of: number) => `model-0000${n}-of-0000${of}.safetensors`;
  const map = { a: shard(1, 3), b: shard(2, 3), c: shard(3, 3) };
  writeFileSync(path('model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
  const message = () =>
    openSafetensors(folder.path).then(
      () => '',
      ({ message: text, fix }: RmError) => `${text} | ${fix}`,
    );
  assert.match(
    await message(),
    /model-00001-of-00003\.safetensors does not exist \(named by .*index\.json, one of 3 that are missing\) \| Download them/,
  );
  for (const n of [1, 2]) writeFileSync(path(shard(n, 2)), '');
  assert.match(
    await message(),
    /; 2 other weight files are there \(for example model-00001-of-00002\.safetensors\), perhaps of another version \| Download the model again/,
  );
});

test('a folder whose name ends in .gguf is a folder', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'model.gguf');
  mkdirSync(path);
  for (const name of ['config.json', 'model.safetensors']) copyFileSync(join(given, name), join(path, name));
  assert.is((await readArchitecture(path)).layers, 4);
  rmSync(join(path, 'model.safetensors'));
  assert.match(await said([], { at: 'other.gguf' }), /other\.gguf/);
});

test.run();
