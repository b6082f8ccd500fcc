import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import {
  openSealedTensors,
  readArchitecture,
  type SealedSource,
  writeSealedTensors,
} from '../../model/index.js';
import { type PruneOptions, prune } from '../../replaceme/index.js';
import { StatisticsFile } from '../../replaceme/statistics/statisticsFile.js';
import { rejectsWith } from '../gpu.js';
import { writeTinyModel } from '../tinyModel.js';
import { options, workplace } from './workplace.js';

const device = await Device.open({ profile: true });
test.after(() => device.close());

/** A place with a statistics file; `run` prunes and tells the weights written, what was done, and the report. */
async function measuring() {
  const place = await workplace();
  const file = join(place.path, 'sums.safetensors');
  const run = async (more: PruneOptions = {}) => {
    const phases = new Set<string>();
    const calls = await dispatches();
    const report = await prune(place.model, place.out, {
      // A report would look at tokens to compare the models.
      ...options(place.calibration, { statistics: file, force: true, report: 'none', device, ...more }),
      onProgress: ({ phase, done, unit }) => done > 0 && unit !== 'layers' && phases.add(phase),
    });
    return {
      report,
      phases: [...phases],
      embedded: (await dispatches()) - calls,
      weights: readFileSync(join(place.out, 'model.safetensors')),
    };
  };
  return { ...place, file, run };
}

/** How often tokens were embedded: every forward pass begins so. */
async function dispatches(): Promise<number> {
  const rows = (await device.profiler?.table()) ?? [];
  return rows.filter(({ kernel }) => /gatherRows/.test(kernel)).reduce((sum, { calls }) => sum + calls, 0);
}

/** Loading, and the written model against the one in memory: one forward pass each. */
function assertNoPass({ phases, embedded }: { phases: string[]; embedded: number }): void {
  assert.equal(phases, ['load', 'write']);
  if (device.profiler) assert.is(embedded, 2);
}

for (const method of ['replaceme-ls', 'refit']) {
  const select = 'cosine';
  test(`${method}: the second run costs no pass and gives the same bytes as one without the file`, async () => {
    using place = await measuring();
    const alone = await place.run({ method, select, statistics: undefined });
    const first = await place.run({ method, select });
    assert.ok(first.phases.includes('distances'));
    if (device.profiler) assert.ok(first.embedded > 2);
    const second = await place.run({ method, select });
    assertNoPass(second);
    assert.is(Buffer.compare(first.weights, alone.weights), 0, 'the file changes nothing');
    assert.is(Buffer.compare(second.weights, alone.weights), 0, 'read back bit for bit');
    assert.equal(second.report.selection, alone.report.selection);
    assert.is(second.report.fit.tokens, alone.report.fit.tokens);
    assert.is(device.memory.liveBytes, 0, 'nothing stays on the device');
    assert.equal(place.left(), ['calibration.txt', 'model', 'pruned', 'sums.safetensors']);
  });
}

test('what was chosen by measuring candidates is chosen again for the same method and settings only', async () => {
  using place = await measuring();
  const alone = await place.run({ method: 'refit', select: 'measured', statistics: undefined });
  assert.ok(alone.phases.includes('candidates'), alone.phases.join());
  const asked = { method: 'refit', select: 'measured' };
  const first = await place.run(asked);
  const second = await place.run(asked);
  assert.not.ok(second.phases.includes('candidates'));
  assert.equal(second.report.selection, alone.report.selection);
  for (const { weights } of [first, second]) assert.is(Buffer.compare(weights, alone.weights), 0);
  assert.ok((await place.run({ ...asked, ridge: 0.5 })).phases.includes('candidates'));
});

test('another alpha, and another method of least squares, cost no pass', async () => {
  using place = await measuring();
  await place.run({ method: 'replaceme-ls' });
  const again = await place.run({ method: 'replaceme-ls', alpha: 3 });
  assertNoPass(again);
  const alone = await place.run({ method: 'replaceme-ls', alpha: 3, statistics: undefined });
  assert.is(Buffer.compare(again.weights, alone.weights), 0);
  assertNoPass(await place.run({ method: 'replaceme-diagonal' }));
});

test('another ridge of a refit that leaves o_proj alone costs no pass', async () => {
  using place = await measuring();
  const settings = { method: 'refit', attentionStep: 0, window: 1 };
  await place.run(settings);
  const again = await place.run({ ...settings, ridge: 0.5 });
  assertNoPass(again);
  const alone = await place.run({ ...settings, ridge: 0.5, statistics: undefined });
  assert.is(Buffer.compare(again.weights, alone.weights), 0);
});

test('with o_proj another ridge makes other MLP features: they are summed once more, and kept', async () => {
  using place = await measuring();
  const settings = { method: 'refit', attentionStep: 0.5, window: 1 };
  await place.run({ ...settings, ridge: 0.5 });
  const other = await place.run({ ...settings, ridge: 1 });
  assert.ok(other.phases.length > 2);
  for (const ridge of [0.5, 1]) assertNoPass(await place.run({ ...settings, ridge }));
});

test('another ratio that was measured before costs no pass; a new one is added', async () => {
  using place = await measuring();
  await place.run();
  await place.run({ layers: 3 });
  for (const layers of [2, 3]) assertNoPass(await place.run({ layers }));
});

test('later windows are fitted on the pruned model and never taken from the file', async () => {
  using place = await measuring();
  const two = { layers: undefined, remove: [1, 4] };
  const alone = await place.run({ ...two, statistics: undefined });
  await place.run(two);
  const again = await place.run(two);
  assert.ok(again.phases.includes('statistics'), 'the second window needs a pass');
  assert.is(Buffer.compare(again.weights, alone.weights), 0);
  assertNoPass(await place.run({ ...two, remove: [1] }));
});

test('healing after recalled statistics is that of a run without the file', async () => {
  using place = await measuring();
  const healed = { method: 'refit-heal', window: 1 };
  const alone = await place.run({ ...healed, statistics: undefined });
  await place.run(healed);
  assert.is(Buffer.compare((await place.run(healed)).weights, alone.weights), 0);
});

test('text that the model writes is written once', async () => {
  using place = await measuring();
  const generated = { calibration: undefined, generate: 200, window: 1, alpha: 1 };
  const first = await place.run(generated);
  assert.ok(first.phases.includes('generate'));
  const second = await place.run(generated);
  assertNoPass(second);
  assert.is(Buffer.compare(first.weights, second.weights), 0);
  assert.is(second.report.calibration.tokens, 200);
  assert.match(second.report.calibration.files[0]!.path, 'generated by the model');
});

test('a file of other inputs is refused with the difference named, and kept', async () => {
  using place = await measuring();
  await place.run();
  const before = readFileSync(place.file);
  const refused = async (words: RegExp, more: PruneOptions = {}) => {
    assert.match(await rejectsWith(() => place.run(more), 'INVALID_ARGUMENT'), words);
    assert.is(Buffer.compare(readFileSync(place.file), before), 0);
  };
  await refused(/number of tokens: 1024 there, 512 now/, { tokens: 512 });
  await refused(/sequence length: 64 there, 32 now/, { sequenceLength: 32 });
  await refused(/weights of the files: \[1\] there, \[2\] now/, { weights: [2] });
  await refused(/share of masked tokens: null there, 0\.5 now/, { mask: 0.5 });
  await refused(/number of generated tokens: null there, 64 now/, { generate: 64 });
  const text = join(place.path, 'other.txt');
  writeFileSync(text, 'Another text, of which there is little. '.repeat(60));
  await refused(/calibration files: \["[0-9a-f]{12}\.\.\."\] there/, { calibration: [text] });
  const tokenizer = join(place.model, 'tokenizer.json');
  const kept = readFileSync(tokenizer, 'utf8');
  writeFileSync(tokenizer, `${kept}\n`);
  await refused(/in the tokenizer: "/);
  writeFileSync(tokenizer, kept);
  await writeTinyModel(place.model, { values: (_, values) => values.reverse() });
  await refused(/in the model: "/);
});

test('a damaged or foreign file is a typed error, and is left as it is', async () => {
  using place = await measuring();
  await place.run();
  const whole = join(place.path, 'whole');
  copyFileSync(place.file, whole);
  const damaged = async (what: string, damage: () => void, words: RegExp) => {
    copyFileSync(whole, place.file);
    damage();
    const before = readFileSync(place.file);
    assert.match(await rejectsWith(() => place.run(), 'DATA_INVALID'), words, what);
    assert.is(Buffer.compare(readFileSync(place.file), before), 0, what);
  };
  const { length } = readFileSync(whole);
  await damaged(
    'truncated',
    () => truncateSync(place.file, length - 5),
    /not a complete statistics file: .*truncated/,
  );
  await damaged('empty', () => truncateSync(place.file, 0), /has 0 bytes/);
  const flipped = () => {
    const bytes = readFileSync(place.file);
    bytes[length - 5]! ^= 1;
    writeFileSync(place.file, bytes);
  };
  await damaged('a flipped bit', flipped, /"ls .* has changed/);
  const weights = join(place.model, 'model.safetensors');
  await damaged('weights', () => copyFileSync(weights, place.file), /its format is "pt", not "rm-engine/);
  copyFileSync(whole, place.file);
  assertNoPass(await place.run());
});

/** A value of a file, of any form. */
type Json = ReturnType<typeof JSON.parse>;

/** Changes a copy of the description, and seals it again, as a program would that wants to deceive. */
async function resealed(
  path: string,
  change: (content: Json, tensors: SealedSource[]) => unknown,
): Promise<void> {
  const kind = { format: 'rm-engine statistics 3', what: 'statistics file', fix: '' };
  const file = await openSealedTensors(path, kind);
  const content = structuredClone(file.description);
  const tensors: SealedSource[] = [];
  for (const name of file.names) {
    const bytes = await file.read(name);
    tensors.push({ name, shape: file.shapeOf(name), bytes: () => bytes });
  }
  await file.close();
  change(content, tensors);
  await writeSealedTensors(path, kind, content, tensors);
}

test('no byte of the file can be changed unseen: names, numbers, choices, shapes, matrices', async () => {
  using place = await measuring();
  await place.run();
  const whole = readFileSync(place.file);
  const header = 8 + Number(whole.readBigUInt64LE(0));
  const text = whole.subarray(8, header).toString('latin1').trimEnd();
  const tried: string[] = [];
  // The digits of the description, one at a time, and bytes of the matrices here and there.
  const digits = [...text.matchAll(/[0-9]/g)].map(({ index }) => 8 + index);
  const places = [
    ...digits.filter((_, i) => i % 7 === 0),
    ...Array.from({ length: 20 }, (_, i) => header + i * 199),
  ];
  for (const at of places) {
    const bytes = Buffer.from(whole);
    bytes[at] = at < header ? 48 + ((bytes[at]! - 47) % 10) : bytes[at]! ^ 1;
    writeFileSync(place.file, bytes);
    const code = await StatisticsFile.read(place.file)
      .then(async file => {
        for (const name of file.names) for (const part of file.parts(name)) await file.matrix(name, part);
        return 'believed';
      })
      .catch(error => error.code);
    if (code !== 'DATA_INVALID') tried.push(`${at}: ${code}`);
  }
  assert.equal(tried, []);
  // The case that was believed before: another layer as the chosen one.
  const choice = whole
    .toString('latin1')
    .replace(
      /(windows[^0-9]{4,20}layer[^0-9]{2,6})(\d)/,
      (_, before, layer) => before + ((Number(layer) + 1) % 4),
    );
  assert.not.equal(choice, whole.toString('latin1'));
  writeFileSync(place.file, Buffer.from(choice, 'latin1'));
  assert.match(await rejectsWith(() => place.run(), 'DATA_INVALID'), /does not match its hash/);
});

test('a file whose hash is right is still checked against the model', async () => {
  using place = await measuring();
  await place.run({ select: 'cosine' });
  const arch = await readArchitecture(place.model);
  const check = async () => {
    const file = await StatisticsFile.read(place.file);
    await file.fits(arch);
    for (const name of file.names) for (const part of file.parts(name)) await file.matrix(name, part);
  };
  await check();
  const whole = readFileSync(place.file);
  const sums = (content: Json) => Object.keys(content.sums)[0]!;
  const renamed = (content: Json, tensors: SealedSource[], from: RegExp, to: string) => {
    const [name, entry] = Object.entries(content.sums)[0]!;
    const other = name.replace(from, to);
    content.sums = { [other]: entry };
    for (const [i, tensor] of tensors.entries()) {
      tensors[i] = { ...tensor, name: tensor.name.replace(name, other) };
    }
  };
  const first = (content: Json) => content.sums[sums(content)];
  const measure = (content: Json) => Object.values<Json>(content.distances)[0]['2'];
  const choice = (content: Json): Json => Object.values(content.choices)[0];
  const half = new Uint8Array(4 * 16 * 16);
  const lies: [what: string, change: (content: Json, tensors: SealedSource[]) => unknown, words: RegExp][] = [
    [
      'layers beyond the model',
      (c, t) => renamed(c, t, /\d+\.\.\d+/, '5..7'),
      /layers that the model does not have/,
    ],
    [
      'layers that run backwards',
      (c, t) => renamed(c, t, /\d+\.\.\d+/, '3..2'),
      /layers that the model does not have/,
    ],
    ['a name that is none', (c, t) => renamed(c, t, /\d+\.\.\d+/, 'x'), /not the name of sums/],
    ['a number too few', c => delete first(c).numbers.tokens, /not complete/],
    [
      'a number that is none',
      c => (first(c).numbers.tokens = 'many'),
      /numbers\.tokens is "many", not a finite number/,
    ],
    ['a negative sum', c => (first(c).numbers.tokens = -1), /negative/],
    ['a matrix too few', (_, t) => t.pop(), /described but not there/],
    ['a matrix too many', (_, t) => t.push({ ...t[0]!, name: 'more' }), /described but not there/],
    ['a smaller matrix', (_, t) => (t[0] = { ...t[0]!, shape: [16, 16], bytes: () => half }), /is \[16,16\]/],
    ['inherited names', c => (first(c).numbers = { constructor: 1 }), /not complete/],
    ['distances of other layers', c => (measure(c).sums = [1]), /1 windows of 2 layers, the model 4/],
    ['a distance that is none', c => (measure(c).sums[1] = null), /sums\[1\] is null/],
    ['no rows', c => (measure(c).rows = 0), /rows is 0, not a whole number from 1/],
    ['a chosen layer beyond', c => (choice(c).windows[0].layer = 5), /chooses layers/],
    ['a chosen half layer', c => (choice(c).windows[0].layer = 1.5), /layer is 1\.5, not a whole number/],
    ['no chosen window', c => (choice(c).windows = []), /list of 0/],
    ['endless windows', c => (choice(c).windows[0].count = 1e12), /not a whole number/],
    ['windows that overlap', c => choice(c).windows.push(choice(c).windows[0]), /overlap/],
    ['generated text of no file', c => (c.generated = { sequences: [], tokens: 1, files: [] }), /sequences/],
    ['no recipe', c => delete c.recipe, /recipe is missing/],
  ];
  for (const [what, change, words] of lies) {
    writeFileSync(place.file, whole);
    await resealed(place.file, change);
    assert.match(await rejectsWith(check, 'DATA_INVALID'), words, what);
  }
  writeFileSync(place.file, whole);
  await resealed(place.file, (_, tensors) => {
    const bytes = new Uint8Array(tensors[0]!.shape.reduce((a, b) => a * b, 4)).fill(255);
    tensors[0] = { ...tensors[0]!, bytes: () => bytes };
  });
  assert.match(await rejectsWith(check, 'DATA_INVALID'), /not finite/);
  // A run asks for the same checks.
  writeFileSync(place.file, whole);
  await resealed(place.file, content => (choice(content).windows[0].layer = 5));
  assert.match(await rejectsWith(() => place.run({ select: 'cosine' }), 'DATA_INVALID'), /chooses layers/);
});

test('a failed solve loses no statistics', async () => {
  using place = await measuring();
  const few = { tokens: 20, window: 2 };
  await rejectsWith(() => place.run(few), 'NOT_POSITIVE_DEFINITE');
  assertNoPass(await place.run({ ...few, alpha: 1 }));
});

test('the file keeps distances of all measures and sizes', async () => {
  using place = await measuring();
  const written = await StatisticsFile.open(place.file);
  written.agree({ model: 'a', tokens: 5 });
  await written.putDistances('cosine', 2, { sums: [0.2, Number.EPSILON, 2 / 3], rows: 2 });
  await written.putDistances('cosine', 3, { sums: [1], rows: 1 });
  await written.putDistances('angular', 2, { sums: [2], rows: 1 });
  const read = await StatisticsFile.open(place.file);
  assert.equal(read.distances('cosine', 2), [0.1, Number.EPSILON / 2, 1 / 3]);
  assert.equal(read.distances('cosine', 3), [1]);
  assert.equal(read.distances('angular', 2), [2]);
  assert.is(read.distances('angular', 3), undefined);
  read.agree({ tokens: 5 });
  assert.match(
    await rejectsWith(() => read.agree({ model: 'b' }), 'INVALID_ARGUMENT'),
    /model: "a" there, "b" now/,
  );
});

test.run();
