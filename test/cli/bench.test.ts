import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  adapterSlug,
  type Baselines,
  compareWithBaseline,
  comparisonText,
  isBaselines,
  withBaseline,
} from '../../bench/baselines.js';
import { type KernelBenchmark, kernelsText } from '../../bench/kernels.js';
import { type TimedShapes, timedShapes } from '../../bench/largeShapes.js';
import { benchmarkSection, withSection } from '../../bench/markdown.js';
import { digits, median } from '../../bench/measure.js';
import { type PeakRates, peakForm, shareOfPeak } from '../../bench/peakRates.js';
import { checkPrediction, timeRatio } from '../../bench/predictHere.js';
import { pruneShares } from '../../bench/prune.js';
import { formatBench } from '../../cli/bench/measuring.js';
import { Device } from '../../engine/device.js';
import type { DeviceFeatures } from '../../engine/deviceOptions.js';
import { shippedPath } from '../../model/index.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { ownCache, rmEngine } from './support.js';

const adapter = {
  ...{ description: 'Mesa 25', vendor: 'mesa', architecture: '', device: 'llvmpipe-256-bits-' },
  ...{ kind: 'software' as const, subgroupMinSize: 8, subgroupMaxSize: 8, subgroupMatrixConfigs: [] },
};
const environment = { adapter, node: 'v20.0.0', platform: 'linux x64', date: '2026-01-31' };
const peak: PeakRates = {
  ...{ f32Gflops: 100, readGigabytes: 10, copyGigabytes: 8, bufferCopyGigabytes: 20 },
  ...{ uploadGigabytes: 1, downloadGigabytes: 1 },
  ...{ encodeMicroseconds: 1, dispatchMicroseconds: 1, roundTripMicroseconds: 1 },
};
const timing = {
  ...{ kernel: 'matmul', name: '512x512x512 f32', milliseconds: 0.0123456, fastest: 0.01, samples: 7 },
  ...{ gflops: 21738.4, gigabytes: 0 },
};
const kernels: KernelBenchmark = {
  ...{ bench: 'kernels', ...environment, clock: 'gpu', shapes: 'Small shapes.', timings: [timing] },
  ...{ skipped: [], metrics: [] },
};

test('median and digits', () => {
  assert.is(median([3, 1, 2]), 2);
  assert.is(median([4, 1, 3, 2]), 2.5);
  assert.equal([0, 0.01234, 1.5, 12345.6].map(digits), ['0', '0.0123', '1.50', '12346']);
});

test('kernels as text and as Markdown, with a column of shares where the peak is known', () => {
  const said = kernelsText(kernels);
  const line = 'GPU timestamps, median of 7, Node v20.0.0, linux x64, 2026-01-31';
  assert.is(
    benchmarkSection(said),
    `${line}\n\n| kernel | case | ms | GFLOP/s | GB/s |\n| --- | --- | --: | --: | --: |\n` +
      '| matmul | 512x512x512 f32 | 0.0123 | 21738 |  |\n\nSmall shapes.',
  );
  const shares = kernelsText({
    ...kernels,
    timings: [{ ...timing, ofPeak: 0.456, peak: 'fma' }, timing],
    skipped: [{ kernel: 'gram', name: 'big', reason: 'no room' }],
  });
  assert.equal(formatBench(shares).split('\n'), [
    line,
    '',
    'kernel  case                 ms  GFLOP/s  GB/s   of peak',
    'matmul  512x512x512 f32  0.0123    21738        46 % fma',
    'matmul  512x512x512 f32  0.0123    21738',
    '',
    'Small shapes.',
    '',
    'Not run: gram big (no room).',
    '',
  ]);
});

test('kernels: shapes of large models on a GPU or when asked, and the reason', () => {
  const on = (kind: 'gpu' | 'software', asked?: 'small' | 'large', subgroupMatrix = false) =>
    timedShapes({ info: { ...adapter, kind }, features: { subgroupMatrix } as DeviceFeatures }, asked);
  const most = ({ cases }: TimedShapes) => Math.max(...cases.map(({ flops = 0 }) => flops));
  const kernelsOf = ({ cases }: TimedShapes) => [...new Set(cases.map(({ kernel }) => kernel))].sort();
  assert.match(on('software').reason, /^Small shapes, because Mesa 25 is a software adapter\.$/);
  assert.match(on('gpu').reason, /8B and 70B .* because Mesa 25 is a GPU/);
  assert.match(on('software', 'large').reason, /8B and 70B .* as asked\.$/);
  assert.match(on('gpu', 'small').reason, /^Small shapes, as asked\.$/);
  // A second on a core of a CPU is at most 1e11 operations, on a GPU at least 1e12.
  for (const small of [on('software'), on('gpu', 'small')]) assert.ok(most(small) < 1e11);
  for (const large of [on('gpu'), on('software', 'large')]) {
    assert.ok(most(large) > 1e12);
    // No kernel is left out, and none is timed at both sizes.
    for (const kernel of kernelsOf(on('software'))) assert.ok(kernelsOf(large).includes(kernel), kernel);
    for (const { kernel, name } of on('software').cases)
      if (['matmul', 'gatedMatmul', 'attention', 'gram', 'crossGram', 'rmsNorm'].includes(kernel))
        assert.not.ok(large.cases.some(item => item.kernel === kernel && item.name === name));
  }
  // Products for matrix units are timed where there are some.
  const [without, withUnits] = [on('gpu'), on('gpu', undefined, true)];
  assert.is(withUnits.cases.length, without.cases.length + 1);
});

test('--save: the same benchmark of the same adapter is replaced, everything else stays', () => {
  const on = (description: string, bench: string) => ({ adapter: { ...adapter, description }, bench });
  const first = withSection('# Benchmarks\n\nHow to read this.\n', on('A', 'kernels'), 'old');
  assert.is(first, '# Benchmarks\n\nHow to read this.\n\n## A\n\n### kernels\n\nold\n');
  const second = withSection(withSection(first, on('B', 'peak'), 'b'), on('A', 'peak'), 'a');
  assert.is(second, `${first}\n### peak\n\na\n\n## B\n\n### peak\n\nb\n`);
  assert.is(withSection(second, on('A', 'kernels'), 'new'), second.replace('old', 'new'));
  assert.is(withSection(second, on('B', 'peak'), 'c'), second.replace('\nb\n', '\nc\n'));
  assert.is(withSection('', on('A', 'x'), 'y'), '## A\n\n### x\n\ny\n');
});

test('share of the nearer peak', () => {
  assert.equal(shareOfPeak({ flops: 50e6, bytes: 1e6, milliseconds: 1 }, peak), { share: 0.5, of: 'fma' });
  assert.equal(shareOfPeak({ flops: 1e6, bytes: 5e6, milliseconds: 1 }, peak), { share: 0.25, of: 'memory' });
  assert.is(shareOfPeak({ flops: 0, bytes: 0, milliseconds: 1 }, peak), undefined);
  assert.is(shareOfPeak({ flops: 1, bytes: 1, milliseconds: 0 }, peak), undefined);
});

test('what counts as stored peak rates', () => {
  assert.is(peakForm(peak, ''), undefined);
  assert.is(peakForm({ ...peak, f16Gflops: 3 }, ''), undefined);
  const { readGigabytes: _, ...less } = peak;
  for (const wrong of [null, 3, [], less, { ...peak, f32Gflops: 0 }, { ...peak, f16Gflops: 'fast' }]) {
    assert.ok(peakForm(wrong, ''), JSON.stringify(wrong));
  }
});

const metric = (name: string, value: number, better: 'higher' | 'lower') => ({
  name,
  value,
  unit: 'x',
  better,
});
const run = (bench: string, ...metrics: ReturnType<typeof metric>[]) => ({ ...environment, bench, metrics });

test('baselines: merged by benchmark and name', () => {
  const first = withBaseline(
    undefined,
    run('prefill', metric('a', 1.23456, 'higher'), metric('b', 2, 'higher')),
  );
  assert.is(first.benches.prefill!.metrics.a!.value, 1.235);
  const second = withBaseline(first, run('solve', metric('a', 5, 'lower')));
  const third = withBaseline(second, run('prefill', metric('a', 7, 'higher')));
  assert.equal(Object.keys(third.benches), ['prefill', 'solve']);
  assert.is(third.benches.prefill!.metrics.a!.value, 7);
  assert.is(third.benches.prefill!.metrics.b!.value, 2);
  assert.is(third.adapter, 'llvmpipe-256-bits-');
  assert.is(adapterSlug(adapter), 'llvmpipe-256-bits');
  assert.ok(isBaselines(JSON.parse(JSON.stringify(third))));
  for (const wrong of [null, {}, { adapter: 'a', benches: { x: {} } }]) assert.not.ok(isBaselines(wrong));
});

test('baselines: the ratio, and slower by more than noise in the direction that counts', () => {
  const before: Baselines = withBaseline(
    undefined,
    run('b', metric('rate', 100, 'higher'), metric('time', 100, 'lower')),
  );
  const compare = (rate: number, time: number) =>
    compareWithBaseline(run('b', metric('rate', rate, 'higher'), metric('time', time, 'lower')), before).map(
      ({ ratio, slower }) => [ratio, slower],
    );
  assert.equal(compare(50, 200), [
    [0.5, true],
    [2, true],
  ]);
  assert.equal(compare(200, 50), [
    [2, false],
    [0.5, false],
  ]);
  assert.equal(compare(70, 140), [
    [0.7, false],
    [1.4, false],
  ]);
  const [fresh] = compareWithBaseline(run('b', metric('new', 1, 'lower')), before);
  assert.equal([fresh!.baseline, fresh!.ratio, fresh!.slower], [undefined, undefined, false]);
  const said = formatBench(
    comparisonText(compareWithBaseline(run('b', metric('rate', 50, 'higher')), before)),
  );
  assert.match(said, /^rate +50\.0 +100 +x +0\.50 +SLOWER$/m);
  assert.match(said, /1 of 1 slower .* 1\.5 x/);
});

test('shares of the forward pass from the sections', () => {
  const kernel = (name: string, milliseconds: number) => ({
    ...{ kernel: name, milliseconds, calls: 1, flops: 0, bytes: 0 },
  });
  const section = (name: string, ...list: ReturnType<typeof kernel>[]) => ({
    ...{ section: name, wallMilliseconds: 1, submits: 1, waits: 1, batches: 1, layers: 1 },
    kernels: list,
    milliseconds: list.reduce((sum, { milliseconds }) => sum + milliseconds, 0),
  });
  const shares = pruneShares([
    section('', kernel('x', 1000)),
    section('load', kernel('countNonFinite', 500)),
    section('distances', kernel('matmul', 60), kernel('cosineDistance', 7)),
    section('forward', kernel('matmul', 40)),
    section('forward/statistics', kernel('matmul', 5)),
    section('statistics', kernel('outer products', 10)),
    section('solve', kernel('cholesky', 2)),
  ]);
  assert.equal(shares, { forward: 100, sums: 15, solve: 2 });
});

/** Runs a benchmark on the tiny model with a cache of its own; returns the object of --json. */
async function bench(args: readonly string[], cache: string) {
  const said = await rmEngine(['bench', ...args, '--json'], { env: ownCache(cache) });
  assert.is(said.status, 0, said.stderr);
  return { ...said, result: JSON.parse(said.stdout) };
}

const isPositive = (value: unknown) => typeof value === 'number' && Number.isFinite(value) && value > 0;

test('predict: a card without a device, with what is assumed; another name is refused', async () => {
  using folder = temporaryFolder();
  const { result, stderr } = await bench(['predict', '--gpu', '7900xtx'], folder.path);
  assert.is(stderr, '');
  assert.match(result.card.name, /7900 XTX/);
  for (const { name, value } of result.metrics) assert.ok(isPositive(value), name);
  const text = await rmEngine(['bench', 'predict', '--gpu', 'm2']);
  assert.match(text.stdout, /Llama-3-70B[\s\S]*does not fit[\s\S]*Assumed: /);
  assert.is((await rmEngine(['bench', 'predict', '--gpu', 'voodoo2'])).status, 2);
  assert.is((await rmEngine(['bench', 'predict', 'model', '--gpu', 'm2'])).status, 2);
});

test('predict on this adapter: a ratio for prefill, decoding and the phases that compute', async () => {
  await using device = await Device.open();
  const folder = shippedPath('demo-model');
  const { compared } = await checkPrediction(device, folder, 'demo', 512);
  assert.equal(
    compared.map(({ name }) => name),
    ['prefill 64', 'prefill 256', 'decode', 'prune: select', 'prune: fit'],
  );
  for (const item of compared) assert.ok(isPositive(timeRatio(item)), item.name);
});

test('load, prefill, decode, prune and startup of a small model: fields and metrics', async () => {
  using folder = temporaryFolder();
  const model = join(folder.path, 'tiny');
  mkdirSync(model);
  await writeTinyModel(model);
  const load = await bench(['load', model, '--samples', '1'], folder.path);
  for (const field of ['bytes', 'reading', 'loading', 'writing', 'timesReading', 'timesFaster'])
    assert.ok(isPositive(load.result[field]));
  const prefill = await bench(['prefill', model, '--tokens', '16', '--samples', '1'], folder.path);
  assert.is(prefill.result.bench, 'prefill');
  assert.is(prefill.result.model, 'tiny');
  for (const field of ['milliseconds', 'tokensPerSecond', 'gflops'])
    assert.ok(isPositive(prefill.result[field]));
  // Sequences of 20 tokens at most, 4 of them the prompt: 15 timed tokens each.
  const decode = await bench(
    ['decode', model, '--tokens', '40', '--prompt', '4', '--sequence-length', '20'],
    folder.path,
  );
  assert.equal([decode.result.tokens, decode.result.sequences], [40, 3]);
  assert.ok(decode.result.submitsPerToken >= 1);
  assert.ok(decode.result.dispatchesPerToken >= 6, 'more than one dispatch a layer');
  assert.is(decode.result.growth.deviceBytes, 0, 'no tensor is left behind');
  const together = await bench(
    ['together', model, '--tokens', '4', '--texts', '3', '--samples', '1'],
    folder.path,
  );
  for (const field of ['alone', 'beside', 'ratio']) assert.ok(isPositive(together.result[field]));
  const startup = await bench(['startup', model, '--tokens', '8'], folder.path);
  const { steps, milliseconds, driver, beyondDriver } = startup.result;
  assert.is(steps.length, 4);
  assert.ok(Math.abs(milliseconds - driver - beyondDriver) < 1e-6 * milliseconds);
  assert.ok(steps.at(-1).compiling > 0, 'the first forward pass compiles');
  const text = join(folder.path, 'calibration.txt');
  writeFileSync(text, 'The quick brown fox jumps over the lazy dog, and then over 13 more.\n\n'.repeat(20));
  const prune = await bench(
    ['prune', model, '--layers', '2', '--tokens', '600', '--sequence-length', '60', '--calib', text],
    folder.path,
  );
  assert.equal(
    prune.result.phases.map(({ phase }: { phase: string }) => phase),
    ['calibrate', 'load', 'select', 'fit', 'write', 'verify', 'other'],
  );
  for (const field of ['seconds', 'forward', 'sums', 'solve'])
    assert.ok(isPositive(prune.result[field]), field);
});

test('solve: every phase, and an exact solution', async () => {
  using folder = temporaryFolder();
  const { result } = await bench(['solve', '--n', '40', '--right-sides', '8', '--samples', '1'], folder.path);
  assert.equal(
    result.phases.map(
      ({ milliseconds, gflops }: Record<string, number>) => isPositive(milliseconds) && isPositive(gflops),
    ),
    // Two of them are the forms with small products, beside those by matmul's tiles.
    Array(6).fill(true),
  );
  assert.ok(result.report.relativeResidual < 1e-9);
});

test('kernels: --baseline keeps, --compare shows both, a damaged file is an error', async () => {
  using folder = temporaryFolder();
  const baselines = join(folder.path, 'baselines');
  const kernels = ['kernels', '--filter', 'rowNorms', '--samples', '5', '--baselines', baselines];
  const none = await bench([...kernels, '--compare'], folder.path);
  assert.match(none.stderr, /is not there: keep a baseline with --baseline/);
  assert.is(none.result.comparison, undefined);
  await bench([...kernels, '--baseline'], folder.path);
  const [file] = readdirSync(baselines);
  const stored = JSON.parse(readFileSync(join(baselines, file!), 'utf8'));
  assert.ok(isBaselines(stored));
  const { result } = await bench([...kernels, '--compare'], folder.path);
  assert.is(result.comparison.length, result.timings.length);
  for (const { now, baseline, ratio } of result.comparison) assert.is(ratio, now / baseline);
  writeFileSync(join(baselines, file!), '{"adapter": 3');
  const broken = await rmEngine(['bench', ...kernels, '--compare', '--json']);
  assert.is(broken.status, 1);
  assert.is(JSON.parse(broken.stdout).error.code, 'DATA_INVALID');
});

test("kernels: a user's own products and cases are timed alone, and wrong ones refused", async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'mine.mjs');
  const body = `setup: scope => {
    const x = scope.tensor([64]);
    return { run: rec => rec.clear(x) };
  }`;
  writeFileSync(path, `export const cases = [{ kernel: 'mine', name: '64', bytes: 256, ${body} }];`);
  const own = ['kernels', '--shapes', '8x16x32', '--cases', path, '--samples', '5'];
  const { result } = await bench(own, folder.path);
  assert.equal(
    result.timings.map(({ kernel, name }: Record<string, string>) => `${kernel} ${name}`),
    ['matmul NT 8x16x32 f32', 'matmul NT 8x16x32 f32 x bf16', 'mine 64'],
  );
  assert.ok(result.timings.every(({ milliseconds }: { milliseconds: number }) => milliseconds >= 0));
  writeFileSync(path, `export default [{ kernel: 'mine', ${body} }];`);
  const wrong = await rmEngine(['bench', 'kernels', '--cases', path, '--json']);
  assert.is(JSON.parse(wrong.stdout).error.code, 'DATA_INVALID');
  assert.match(JSON.parse(wrong.stdout).error.message, /name is missing/);
  assert.is((await rmEngine(['bench', 'kernels', '--shapes', '8x16'])).status, 2);
});

test('--save writes a section', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'numbers.md');
  writeFileSync(path, '# Numbers\n');
  await bench(['kernels', '--filter', 'rowNorms', '--samples', '5', '--save', path], folder.path);
  assert.match(readFileSync(path, 'utf8'), /^# Numbers\n\n## .+\n\n### kernels\n\n.+\n\n\| kernel \|/);
});

test.run();
