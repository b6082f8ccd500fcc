import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { mapPruneConfig, mergeFlags, readPruneConfig } from '../../cli/prune/configFile.js';
import { pruneOptions } from '../../cli/prune/options.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

const here = (path: string) => path.endsWith('.jsonl');
const map = (fields: Record<string, unknown>) => mapPruneConfig(fields, 'c.yaml', here);

test('our own names, in both spellings', () => {
  const { flags, warnings } = map({
    model: 'in',
    out: 'out',
    layers: 4,
    window: 0,
    method: 'plain',
    alpha: 0.5,
    calib: ['a.jsonl', 'b.txt'],
    'sequence-length': 256,
    batchTokens: 512,
    tokens: '1000',
    force: true,
    'memory-limit': '2GiB',
    adapter: 'llvm',
    weights: [1, 0.5],
    select: 'angular',
    windows: 2,
    apart: true,
    heal: 'closed-form',
    ridge: 0.1,
    'attention-step': 0,
    sinkWeight: 2,
    equation: 7,
    epochs: 3,
    'learning-rate': 1e-3,
    l1: 0,
    l2: 0.5,
    scale: 'least-squares',
    faithful: false,
    mask: '15%',
    generate: 100,
    statistics: 's.safetensors',
  });
  assert.equal(flags, {
    model: 'in',
    out: 'out',
    layers: 4,
    window: 0,
    method: 'plain',
    alpha: 0.5,
    calib: ['a.jsonl', 'b.txt'],
    sequenceLength: 256,
    batchTokens: 512,
    tokens: 1000,
    force: true,
    memoryLimit: 2 ** 31,
    adapter: 'llvm',
    weights: [1, 0.5],
    select: 'angular',
    windows: 2,
    apart: true,
    heal: { closedForm: true },
    ridge: 0.1,
    attentionStep: 0,
    sinkWeight: 2,
    equation: 7,
    epochs: 3,
    learningRate: 1e-3,
    l1: 0,
    l2: 0.5,
    scale: 'least-squares',
    faithful: false,
    mask: 0.15,
    generate: 100,
    statistics: 's.safetensors',
  });
  assert.equal(warnings, []);
});

test("ReplaceMe's keys", () => {
  const { flags, warnings } = map({
    method: 'lstsq',
    model_path: 'meta-llama/Meta-Llama-3-8B',
    save_path: null,
    dataset: 'data/orca.jsonl',
    dataset_column: 'dialogue',
    dataset_size: 100,
    batch_size: 8,
    max_length: 512,
    layers_to_skip: 8,
    use_4bit: false,
    alpha: 0,
    num_A: 1,
    merge_consecutive: false,
    save_transform_only: false,
  });
  assert.equal(flags, {
    method: 'replaceme-ls',
    model: 'meta-llama/Meta-Llama-3-8B',
    calib: ['data/orca.jsonl'],
    textField: 'dialogue',
    tokens: 51_200,
    batchTokens: 4096,
    sequenceLength: 512,
    layers: 8,
    alpha: 0,
    windows: 1,
    apart: true,
  });
  assert.equal(warnings, []);
});

test("ReplaceMe's cosine fit and several transforms", () => {
  const { flags, warnings } = map({
    ...{ method: 'cosine', loss: 'cosine', solver: 'adam', accurate: true, diag: false, thri: false },
    ...{ layers_to_skip: 8, num_A: 4, merge_consecutive: true },
  });
  assert.equal(flags, {
    ...{ method: 'replaceme-cosine', equation: 7 },
    ...{ layers: 32, windows: 4, apart: false },
  });
  assert.equal(warnings, []);
  assert.is(map({ method: 'cosine', accurate: false }).flags.equation, 8);
  for (const [key, value] of Object.entries({
    loss: 'mse',
    solver: 'lbfgs',
    diag: true,
    two_vectors: true,
  })) {
    assert.match(map({ [key]: value }).warnings[0]!, new RegExp(`"${key}" is not used: .{10}`));
  }
});

test('settings as prune takes them: what is not given stays out, those of the cosine fit go together', () => {
  assert.equal(pruneOptions({ layers: 2, calib: ['a'], window: undefined }), {
    layers: 2,
    calibration: ['a'],
  });
  assert.equal(pruneOptions({ remove: [3], equation: 7, l1: 0 }), {
    remove: [3],
    cosine: { equation: 7, l1: 0 },
  });
});

test('what the words of heal and its options say makes one object', () => {
  const heal = map({ heal: 'closed-form,full:20' }).flags.heal;
  assert.equal(pruneOptions({ heal, healLr: 1e-3, healBatchTokens: 64 }), {
    heal: { closedForm: true, gradient: { train: 'full', steps: 20, learningRate: 1e-3, batchTokens: 64 } },
  });
  assert.equal(heal, { closedForm: true, gradient: { train: 'full', steps: 20 } }, 'stays as it is');
});

test('known keys that cannot be honoured are named with the reason', () => {
  const { flags, warnings } = map({
    layers_to_skip: 2,
    dataset: 'Open-Orca/SlimOrca',
    dataset_column: 'text',
    use_4bit: true,
    min_distance_layer: 20,
    distances_path: './distances.pth',
    save_transform_only: true,
  });
  assert.equal(flags, { layers: 2 });
  const keys = ['dataset', 'dataset_column', 'use_4bit', 'min_distance_layer'];
  for (const key of [...keys, 'distances_path', 'save_transform_only']) {
    const warning = warnings.find(text => text.includes(`"${key}"`));
    assert.ok(warning && /is not used: .{10}/.test(warning), key);
  }
  assert.is(warnings.length, keys.length + 2);
});

test('unknown keys, wrong values and doubled options are typed errors that name them', async () => {
  const refused = (fields: Record<string, unknown>) => rejectsWith(() => map(fields), 'CONFIG_INVALID');
  assert.match(await refused({ layers: 2, layer: 3, colour: 1 }), /unknown keys "layer", "colour"/);
  assert.match(await refused({ constructor: 1 }), /unknown key "constructor"/);
  assert.match(await refused({ layers: 'many' }), /c\.yaml: "layers" is "many"/);
  assert.match(await refused({ layers: [1] }), /"layers" is \[1\]/);
  assert.match(await refused({ layers: 0 }), /"layers" is 0/);
  assert.match(await refused({ heal: 'magic' }), /"heal" is "magic"/);
  assert.match(await refused({ remove: '5..3' }), /"remove" is "5\.\.3"/);
  assert.match(await refused({ weights: [1, 'x'] }), /"weights" is "x"/);
  assert.match(await refused({ accurate: 'maybe' }), /"accurate" is "maybe"/);
  assert.match(await refused({ accurate: true, equation: 8 }), /"accurate" and "equation" say the same/);
  assert.match(await refused({ layers: 2, layers_to_skip: 3 }), /"layers" and "layers_to_skip" say the same/);
  assert.match(await refused({ calib: [] }), /"calib" is \[\]/);
  assert.match(await refused({ batch_size: 1.5 }), /"batch_size" is 1\.5/);
  assert.match(await refused({ force: 'maybe' }), /"force" is "maybe"/);
});

test('files in JSON and YAML; what is neither is a typed error', async () => {
  using folder = temporaryFolder();
  const file = (name: string, text: string) => {
    const path = join(folder.path, name);
    writeFileSync(path, text);
    return path;
  };
  const yaml = await readPruneConfig(file('a.yaml', 'layers_to_skip: 3 # comment\nmethod: "lstsq"\n'));
  assert.equal(yaml.flags, { layers: 3, method: 'replaceme-ls' });
  const json = await readPruneConfig(file('a.json', '{"ratio": 0.25, "model": "m"}'));
  assert.equal(json.flags, { ratio: 0.25, model: 'm' });
  const refused = (path: string) => rejectsWith(() => readPruneConfig(path), 'CONFIG_INVALID');
  assert.match(await refused(file('b.json', '{"layers": ')), /neither JSON nor YAML/);
  assert.match(await refused(file('c.yaml', '- 1\n- 2\n')), /is not a list of "name: value" lines/);
  assert.match(await refused(file('d.yaml', '')), /is not a list/);
  assert.match(await refused(join(folder.path, 'nothing.yaml')), /cannot be read/);
});

test('the command line wins over the file', () => {
  const file = { model: 'a', layers: 4, alpha: 1, calib: ['x'] };
  assert.equal(mergeFlags(file, { alpha: 2, model: undefined, calib: ['y'] }), {
    ...{ model: 'a', layers: 4, alpha: 2, calib: ['y'] },
  });
  const changed = mergeFlags(file, { ratio: 0.5 });
  assert.is(changed.layers, undefined, 'a ratio takes the place of layers');
  assert.is(changed.ratio, 0.5);
  const removed = mergeFlags({ ...file, window: 3 }, { remove: [1, 2] });
  assert.equal([removed.layers, removed.window, removed.remove], [undefined, undefined, [1, 2]]);
  assert.is(mergeFlags({ remove: [1] }, { layers: 2 }).remove, undefined);
  const placed = mergeFlags({ ...file, select: 'angular', windows: 2 }, { window: 3 });
  assert.equal([placed.layers, placed.window, placed.select, placed.windows], [4, 3, undefined, undefined]);
  assert.is(mergeFlags({ ...file, window: 3 }, { select: 'angular' }).window, undefined);
  assert.equal(mergeFlags({ remove: [1] }, { alpha: 2 }).remove, [1]);
});

test.run();
