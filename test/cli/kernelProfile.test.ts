import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { PeakRates } from '../../bench/peakRates.js';
import {
  formatProfile,
  type ProfileSummary,
  profileRows,
  requireTimestamps,
  tracePath,
} from '../../cli/device/kernelProfile.js';
import type { Device } from '../../engine/device.js';
import { kernelOfProgram } from '../../engine/program.js';
import { shippedPath } from '../../replaceme/index.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { ownCache, rmEngine } from './support.js';

test('programs by kernel: variants stay, dtypes and widths go', () => {
  for (const [key, kernel] of [
    ['matmul broadcast 32x32: f32 bf16 transposed', 'matmul broadcast 32x32'],
    ['add vec4f', 'add'],
    ['rmsNorm bf16', 'rmsNorm'],
    ['gatedMatmul tiled 64x128: f32, bf16, silu', 'gatedMatmul tiled 64x128'],
    ['countNonFinite bf16 vec4u', 'countNonFinite'],
    ['attention broadcast 64 by 8', 'attention broadcast 64 by 8'],
    ['cholesky diagonal block double-single', 'cholesky diagonal block double-single'],
    ['f32', 'f32'],
  ] as const) {
    assert.is(kernelOfProgram(key), kernel);
  }
});

const program = (kernel: string, milliseconds: number, flops: number, bytes: number) => ({
  ...{ kernel, calls: 2, milliseconds, flops, bytes },
});
const peak: PeakRates = {
  ...{ f32Gflops: 100, readGigabytes: 10, copyGigabytes: 10, bufferCopyGigabytes: 10 },
  ...{ uploadGigabytes: 1, downloadGigabytes: 1 },
  ...{ encodeMicroseconds: 1, dispatchMicroseconds: 1, roundTripMicroseconds: 1 },
};
const programs = [
  program('add vec4f', 1, 0, 5e6),
  program('matmul tiled: f32 f32', 6, 300e6, 1e6),
  program('matmul tiled: f32 bf16', 2.9995, 100e6, 1e6),
  program('tiny', 0.0005, 0, 0),
];

test('rows: summed by kernel, slowest first, with rates, share and share of the nearer peak', () => {
  const rows = profileRows(programs, peak);
  assert.equal(
    rows.map(({ kernel, calls }) => [kernel, calls]),
    [
      ['matmul tiled', 4],
      ['add', 2],
      ['tiny', 2],
    ],
  );
  const near = (actual: number | undefined, expected: number) =>
    assert.ok(Math.abs(actual! - expected) < 1e-3 * expected, `${actual} is not ${expected}`);
  near(rows[0]!.share, 0.9);
  near(rows[0]!.gflops, 44.45);
  near(rows[0]!.ofPeak, 0.4445);
  assert.equal([rows[0]!.peak, rows[1]!.peak, rows[2]!.peak], ['fma', 'memory', undefined]);
  near(rows[1]!.ofPeak, 0.5);
  assert.is(profileRows(programs)[0]!.ofPeak, undefined);
});

test('the table: small kernels together, sections, shares of the peak only where it is known', () => {
  const noRuns = { batches: 0, layers: 0 };
  const summary: ProfileSummary = {
    milliseconds: 10,
    kernels: profileRows(programs, peak),
    sections: [
      { ...noRuns, section: '', wallMilliseconds: 0, milliseconds: 1, submits: 3, waits: 1 },
      { ...noRuns, section: 'load', wallMilliseconds: 20, milliseconds: 5, submits: 7, waits: 2 },
      {
        ...{ section: 'fit', wallMilliseconds: 20, milliseconds: 2, submits: 8, waits: 4 },
        ...{ batches: 4, layers: 16 },
      },
      { ...noRuns, section: 'fit/solve', wallMilliseconds: 20, milliseconds: 2, submits: 8, waits: 0 },
      { ...noRuns, section: 'fitting', wallMilliseconds: 20, milliseconds: 0, submits: 100, waits: 100 },
    ],
    peak,
  };
  const text = formatProfile(summary);
  assert.match(text, /^kernel +calls +ms +share +GFLOP\/s +GB\/s +of peak$/m);
  assert.match(text, /^matmul tiled +4 +9\.00 +90 % +44\.4 +0\.222 +44 % fma$/m);
  assert.match(text, /^add +2 +1\.00 +10 % +5\.00 +50 % memory$/m);
  assert.match(text, /^1 others +2 +0\.000500 +0\.0 %$/m);
  assert.match(text, /^load +20\.0 +5\.00 +50 % +7 +2$/m);
  assert.match(text, /^fit +20\.0 +2\.00 +20 % +8 +4 +4 +4\.00, 1\.00 +1\.00, 0\.250$/m);
  assert.match(text, /takes a little longer than usual\.$/m);
  const { peak: _, ...unknown } = { ...summary, kernels: profileRows(programs), sections: [] };
  const without = formatProfile(unknown);
  assert.match(without, /^kernel +calls +ms +share +GFLOP\/s +GB\/s$/m);
  assert.match(without, /Run rm-engine bench peak once/);
  assert.not.match(without, /section/);
});

test('a word that commander takes for the trace is refused unless it is a .json file', () => {
  assert.is(tracePath('a/trace.JSON'), 'a/trace.JSON');
  assert.throws(() => tracePath('./model'), /after the other arguments, or write --profile=trace\.json/);
});

test('an adapter without timestamp queries is an error that says so', async () => {
  const device = { profiler: undefined, info: { description: 'Old GPU' } } as unknown as Device;
  const message = await rejectsWith(() => requireTimestamps(device, '--profile'), 'ADAPTER_UNSUITABLE');
  assert.match(message, /Old GPU has no timestamp queries, which --profile needs/);
});

const demo = shippedPath('demo-model');
const heldout = shippedPath('demo-heldout.txt');

test('eval --profile: the table on stderr, data alone on stdout', async () => {
  using folder = temporaryFolder();
  const env = ownCache(folder.path);
  const args = ['eval', demo, heldout, '--tokens', '64'];
  // The first use of a kernel on a device checks it, which waits too.
  await rmEngine(args, { env });
  const { status, stdout, stderr } = await rmEngine([...args, '--profile'], { env });
  assert.is(status, 0, stderr);
  assert.match(stdout, /^file +tokens +perplexity\n.+\n$/);
  assert.match(stderr, /^kernel +calls +ms +share/m);
  assert.match(stderr, /^matmul .+%/m);
  // Submits, waits and batches; then submits and waits a batch and a layer.
  const found =
    /^evaluate +[\d.]+ +[\d.]+ +[\d.]+ % +\d+ +\d+ +(\d+) +[\d.]+, ([\d.]+) +[\d.]+, [\d.]+$/m.exec(stderr);
  assert.ok(found, stderr);
  assert.ok(Number(found[2]) <= 2 + 1 / Number(found[1]), stderr);
});

test('generate --profile --json with a trace; an existing trace is refused before the work, --force replaces it', async () => {
  using folder = temporaryFolder();
  const env = ownCache(folder.path);
  const trace = join(folder.path, 'trace.json');
  const args = ['generate', demo, 'The', '--max-tokens', '3', '--json', '--profile', trace];
  const { status, stdout, stderr } = await rmEngine(args, { env });
  assert.is(status, 0, stderr);
  const { profile, ids } = JSON.parse(stdout);
  assert.is(ids.length, 3);
  assert.is(profile.trace, trace);
  const { traceEvents } = JSON.parse(readFileSync(trace, 'utf8'));
  const dispatches = traceEvents.filter(
    ({ ph, tid }: { ph: string; tid: number }) => ph === 'X' && tid === 2,
  );
  const calls = profile.kernels.reduce((sum: number, row: { calls: number }) => sum + row.calls, 0);
  assert.is(dispatches.length, calls);
  assert.ok(
    Math.abs(profile.kernels.reduce((sum: number, { share }: { share: number }) => sum + share, 0) - 1) <
      1e-9,
  );

  const before = readFileSync(trace, 'utf8');
  const refused = await rmEngine(args, { env });
  assert.is(refused.status, 1);
  assert.is(JSON.parse(refused.stdout).error.code, 'OUTPUT_EXISTS');
  assert.not.match(refused.stderr, /adapter:/, 'decided before a device is opened');
  assert.is(readFileSync(trace, 'utf8'), before);
  assert.is((await rmEngine([...args, '--force'], { env })).status, 0);
  assert.not.equal(readFileSync(trace, 'utf8'), before);
});

test('prune --profile: sections of the work, and the model is there', async () => {
  using folder = temporaryFolder();
  const out = join(folder.path, 'out');
  const args = ['prune', demo, out, '--method', 'replaceme-ls', '--layers', '2', '--tokens', '600'];
  const { status, stdout, stderr } = await rmEngine([...args, '--json', '--profile'], {
    env: ownCache(folder.path),
  });
  assert.is(status, 0, stderr);
  assert.ok(existsSync(join(out, 'config.json')));
  const names = JSON.parse(stdout).profile.sections.map(({ section }: { section: string }) => section);
  for (const name of [
    'load',
    'select/distances',
    'fit/forward',
    'fit/statistics',
    'fit/solve',
    'write',
    'verify',
  ]) {
    assert.ok(names.includes(name), name);
  }
  assert.match(stderr, /^fit\/solve /m);
  assert.equal(readdirSync(folder.path).sort(), ['out', 'rm-engine'], 'nothing temporary is left');
});

test('a damaged cache of peaks is warned of and ignored', async () => {
  using folder = temporaryFolder();
  const env = ownCache(folder.path);
  const kernels = ['bench', 'kernels', '--filter', 'rowNorms', '--samples', '5', '--json'];
  const peaked = await rmEngine(['bench', 'peak', '--samples', '3'], { env });
  assert.is(peaked.status, 0, peaked.stderr);
  const cache = join(folder.path, 'rm-engine');
  const file = readdirSync(cache).find(name => /^peak-[0-9a-f]{12}\.json$/.test(name));
  assert.ok(file);
  const measured = await rmEngine(kernels, { env });
  assert.ok(JSON.parse(measured.stdout).timings[0].ofPeak > 0);
  writeFileSync(join(cache, file!), '{"key": ');
  const { status, stdout, stderr } = await rmEngine(kernels, { env });
  assert.is(status, 0, stderr);
  assert.is(JSON.parse(stdout).timings[0].ofPeak, undefined);
  assert.match(stderr, /warning: .*is not JSON and is ignored; measure again with: rm-engine bench peak/);
});

test.run();
