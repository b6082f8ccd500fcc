import { copyFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import {
  convert,
  logits,
  Model,
  modelWarnings,
  openCheckpoint,
  readArchitecture,
} from '../../model/index.js';
import { inspectModel } from '../../model/source/inspectModel.js';
import { checkpointData, checkpointNames } from '../familyData.js';
import { writeSmallTokenizer } from '../ggufFamilies.js';
import { maxAbsError, rejectsWith } from '../gpu.js';
import { prunedFamily } from '../replaceme/prunedFamily.js';
import { temporaryFolder } from '../support.js';

// Models whose files say two things, against what transformers 5.23 made of them. Takes about 10 s.
const device = await Device.open();
test.after(() => device.close());

const ownHead = /says that the head is tied .* is stored with other values: it is used, as transformers does/;
const warnings: Record<string, RegExp> = {
  'tied-own-head': ownHead,
  'tied-own-head-qwen2': ownHead,
  'tied-own-head-falcon': ownHead,
  'tied-own-head-wrapped': ownHead,
  'tied-own-head-inner': ownHead,
  unread:
    /: 17 of 61 tensors are not read \(for example \S+\): config\.json does not mention them, and transformers ignores/,
  'layers-beyond':
    /: 9 of 48 tensors are not read .*: they belong to layers beyond the 4 that config\.json states/,
  'file-beside-shards':
    /: model\.safetensors is read, as transformers does; 2 files of other weights beside it are not \(for example model\.safetensors\.index\.json\)/,
  'shards-beside-shards':
    /: model\.safetensors\.index\.json is read, .*; 1 file of other weights beside it is not \(model-00001-of-00004\.safetensors\)/,
};

for (const name of checkpointNames) {
  test(`${name}: logits are transformers', also after writing, and the warning says what counts`, async () => {
    const golden = await checkpointData(name);
    await using model = await Model.load(device, golden.folder);
    const error = maxAbsError((await logits(model, golden.ids)).logits, golden.logits);
    assert.ok(error <= 1e-4, `logits differ by ${error}`);
    const kept = await logits(model.withLayers(golden.kept), golden.ids);
    const keptError = maxAbsError(kept.logits, golden.keptLogits);
    assert.ok(keptError <= 1e-4, `logits of the layers ${golden.kept} differ by ${keptError}`);

    const said = await modelWarnings(golden.folder);
    assert.is(said.length, warnings[name] ? 1 : 0, said.join('\n'));
    if (warnings[name]) assert.match(said[0]!, warnings[name]!);

    using place = temporaryFolder();
    const to = join(place.path, 'pruned');
    mkdirSync(to);
    const pruned = await prunedFamily(model, golden, 'plain', to);
    await using written = await Model.load(device, to);
    assert.is(maxAbsError((await logits(written, golden.ids)).logits, Float64Array.from(pruned.logits)), 0);
    // What was settled is settled in the result; unread tensors stay as they are.
    const after = await modelWarnings(to);
    assert.is(after.length, name === 'unread' ? 1 : 0, after.join('\n'));
    const config = JSON.parse(readFileSync(join(to, 'config.json'), 'utf8'));
    assert.is(written.arch.tiedEmbeddings, model.arch.tiedEmbeddings);
    if (warnings[name] === ownHead) {
      assert.is(config.tie_word_embeddings, false);
      if (config.text_config) assert.is(config.text_config.tie_word_embeddings, false);
    }
  });
}

test('a copy of the embedding as head goes where the embedding changes', async () => {
  const golden = await checkpointData('tied-copy');
  await using model = await Model.load(device, golden.folder);
  using to = temporaryFolder();
  const pruned = await prunedFamily(model, golden, 'prune-and-comp', to.path);
  await using written = await Model.load(device, to.path);
  assert.ok(written.arch.tiedEmbeddings);
  assert.is(maxAbsError((await logits(written, golden.ids)).logits, Float64Array.from(pruned.logits)), 0);
  const checkpoint = await openCheckpoint(to.path);
  assert.not.ok(checkpoint.has('lm_head.weight'));
  await checkpoint.close();
});

test('a folder with an adapter is refused, because transformers adds it to the model', async () => {
  using place = temporaryFolder();
  cpSync((await checkpointData('unread')).folder, place.path, { recursive: true });
  await readArchitecture(place.path);
  writeFileSync(join(place.path, 'adapter_config.json'), '{"peft_type": "LORA"}');
  const message = await rejectsWith(() => readArchitecture(place.path), 'UNSUPPORTED_FAMILY');
  assert.match(message, /adapter_config\.json: the folder holds an adapter/);
});

test('a tied flag beside a head of its own reaches a GGUF file and comes back', async () => {
  const { folder: golden, ids, logits: expected } = await checkpointData('tied-own-head');
  using place = temporaryFolder();
  const folder = join(place.path, 'model');
  mkdirSync(folder);
  for (const name of ['config.json', 'model.safetensors'])
    copyFileSync(join(golden, name), join(folder, name));
  writeSmallTokenizer(folder, 40);
  const [file, back] = [join(place.path, 'model.gguf'), join(place.path, 'back')];
  await convert(device, folder, file);
  const { warnings: said } = await convert(device, file, back);
  assert.equal(said, []);
  for (const path of [file, back]) {
    assert.is((await inspectModel(path)).tiedEmbeddings, false);
    await using model = await Model.load(device, path);
    const error = maxAbsError((await logits(model, ids)).logits, expected);
    assert.ok(error <= 1e-4, `${path}: logits differ by ${error}`);
  }
});

test.run();
