import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
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
      ...options(place.calibration, { statistics: file, force: true, report: false, device, ...more }),
      onProgress: ({ phase }) => phases.add(phase),
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
  return rows.filter(({ kernel }) => /embed/i.test(kernel)).reduce((sum, { calls }) => sum + calls, 0);
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
