import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Device, ensure, formatBytes, type Progress } from '../engine/index.js';
import { accumulateStatistics, type PruneOptions, prune } from '../replaceme/index.js';
import {
  type Benchmark,
  type BenchTable,
  type BenchText,
  describeEnvironment,
  digits,
  environment,
  left,
  right,
} from './measure.js';
import { pruneShares } from './prune.js';
import { type Growth, growthOf } from './scaleFit.js';
import { type Forecast, forecasts, forecastTable } from './scaleForecast.js';
import {
  type ScaleAxis,
  type ScalePoint,
  type ScaleSizes,
  type ScaleTimes,
  scaleAxes,
} from './scalePoint.js';
import { writeSyntheticCheckpoint } from './syntheticCheckpoint.js';

export interface ScaleBenchmark extends Benchmark {
  readonly points: readonly ScalePoint[];
  readonly growth: readonly Growth[];
  readonly forecasts: readonly Forecast[];
}

export interface ScaleOptions {
  /** Values of each axis; the others stay at `base`. */
  readonly values: Readonly<Partial<Record<ScaleAxis, readonly number[]>>>;
  readonly base: ScaleSizes;
  /** Runs of each point; the fastest counts, the first compiles (default 2). */
  readonly samples?: number;
  readonly onProgress?: Progress;
  readonly signal?: AbortSignal;
}

/** Small enough for a software adapter: about two minutes on two cores. */
export const scaleDefaults: Pick<ScaleOptions, 'base' | 'values'> = {
  base: { tokens: 2048, layers: 4, hidden: 256, shards: 1, files: 1 },
  values: {
    tokens: [1024, 2048, 4096, 8192],
    layers: [2, 4, 8],
    hidden: [128, 256, 512],
    shards: [1, 2, 4],
    files: [1, 2, 4],
  },
};

const SEQUENCE = 256;
const BATCH = 512;
const SAMPLE_MS = 20;

/** Short random words in documents of a hundred; the byte tokenizer makes each byte a token. */
function textOf(tokens: number): string {
  const words: string[] = [];
  let state = 1;
  for (let bytes = 0; bytes < 2 * tokens; ) {
    state = Math.imul(state, 1664525) + 1013904223;
    const word = ((state >>> 8) % 46656).toString(36);
    words.push(words.length % 100 === 99 ? `${word}\n\n` : word);
    bytes += word.length + 1;
  }
  return words.join(' ');
}

/** Runs `work` and samples the peak memory of the process. */
async function withHostPeak<T>(work: () => Promise<T>): Promise<{ result: T; hostBytes: number }> {
  let hostBytes = process.memoryUsage.rss();
  const look = () => {
    hostBytes = Math.max(hostBytes, process.memoryUsage.rss());
  };
  const timer = setInterval(look, SAMPLE_MS);
  try {
    const result = await work();
    look();
    return { result, hostBytes };
  } finally {
    clearInterval(timer);
  }
}

/** One run: removes the last layer by least squares, so that all tokens pass all layers once. */
async function measure(
  device: Device,
  folder: string,
  temporary: string,
  sizes: ScaleSizes,
  signal: AbortSignal | undefined,
): Promise<ScaleTimes> {
  const profiler = device.profiler!;
  const options: PruneOptions = {
    ...{ device, method: 'replaceme-ls', remove: [sizes.layers - 1], alpha: 1e-3, report: 'none' },
    ...{ calibration: [join(temporary, 'text.txt')], tokens: sizes.tokens },
    ...{ sequenceLength: SEQUENCE, batchTokens: BATCH },
    ...(signal && { signal }),
  };
  await device.reclaim();
  device.memory.takePeak();
  profiler.reset();
  const out = join(temporary, 'out');
  const started = performance.now();
  const { result: phases, hostBytes } = await withHostPeak(async () => {
    if (sizes.shards === 1) return (await prune(folder, out, options)).phases;
    await accumulateStatistics(folder, out, { ...options, shard: { index: 1, of: sizes.shards } });
    return [];
  });
  const seconds = (performance.now() - started) / 1000;
  await rm(out, { recursive: true, force: true });
  const deviceBytes = Math.max(device.memory.takePeak(), ...phases.map(({ peakBytes }) => peakBytes));
  const sections = await profiler.sections();
  const load = sections.find(({ section }) => section === 'load')?.wallMilliseconds ?? 0;
  const { forward, sums, solve } = pruneShares(sections);
  return {
    ...{ seconds, load: load / 1000, forward: forward / 1000, sums: sums / 1000, solve: solve / 1000 },
    ...{ deviceBytes, hostBytes },
  };
}

/** The smallest value of each quantity. */
const least = (all: readonly ScaleTimes[]): ScaleTimes => {
  const of = (key: keyof ScaleTimes) => Math.min(...all.map(times => times[key]));
  return {
    ...{ seconds: of('seconds'), load: of('load'), forward: of('forward'), sums: of('sums') },
    ...{ solve: of('solve'), deviceBytes: of('deviceBytes'), hostBytes: of('hostBytes') },
  };
};

/**
 * Measures time and memory of a prune against its sizes, on checkpoints of random weights that it writes and removes.
 * `device` must have a profiler (open it with `profile`).
 *
 * @throws RmError as prune.
 */
export async function benchScale(device: Device, options: ScaleOptions): Promise<ScaleBenchmark> {
  ensure(device.profiler !== undefined, 'the device has no profiler', 'Open it with { profile: true }.');
  const { base, values, samples = 2, onProgress, signal } = options;
  const planned = scaleAxes.flatMap(axis =>
    (values[axis] ?? []).map(value => ({ axis, sizes: { ...base, [axis]: value } })),
  );
  const temporary = await mkdtemp(join(tmpdir(), 'rm-engine-scale-'));
  const measured = new Map<string, ScaleTimes>();
  const points: ScalePoint[] = [];
  try {
    await writeFile(
      join(temporary, 'text.txt'),
      textOf(Math.max(...planned.map(({ sizes }) => sizes.tokens))),
    );
    for (const { axis, sizes } of planned) {
      const key = JSON.stringify(sizes);
      if (!measured.has(key)) {
        const folder = join(temporary, 'model');
        const { layers, hidden, files } = sizes;
        const heads = Math.max(1, hidden / 64);
        const dimensions = { layers, hidden, intermediate: 3 * hidden, heads, shards: files };
        await writeSyntheticCheckpoint(folder, dimensions);
        const runs: ScaleTimes[] = [];
        for (let run = 0; run < samples; run++) {
          signal?.throwIfAborted();
          runs.push(await measure(device, folder, temporary, sizes, signal));
        }
        await rm(folder, { recursive: true });
        measured.set(key, least(runs));
      }
      points.push({ axis, sizes, ...measured.get(key)! });
      onProgress?.({ phase: 'scale', done: points.length, total: planned.length, unit: 'runs' });
    }
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  const growth = growthOf(points);
  return {
    ...{ bench: 'scale', ...environment(device), points, growth, forecasts: forecasts() },
    metrics: points.map(({ axis, sizes, seconds }) => ({
      ...{ name: `${axis} ${sizes[axis]}`, value: seconds, unit: 's', better: 'lower' as const },
    })),
  };
}

const pointsTable = (points: readonly ScalePoint[]): BenchTable => ({
  columns: [
    ...[left('varied'), right('value'), right('s'), right('load, s'), right('forward, s')],
    ...[right('G and C, s'), right('solve, s'), right('device'), right('process')],
  ],
  rows: points.map(point => [
    ...[point.axis, `${point.sizes[point.axis]}`, digits(point.seconds), digits(point.load)],
    ...[digits(point.forward), digits(point.sums), digits(point.solve)],
    ...[formatBytes(point.deviceBytes), formatBytes(point.hostBytes)],
  ]),
});

const growthTable = (growth: readonly Growth[]): BenchTable => ({
  columns: [left('quantity'), left('axis'), right('grows as'), right('expected'), right('R²')],
  rows: growth.map(({ axis, quantity, exponent, expected, r2 }) => [
    ...[quantity, axis, `${axis}^${exponent.toFixed(2)}`, expected, r2.toFixed(3)],
  ]),
});

export const scaleText = (result: ScaleBenchmark): BenchText => ({
  description: `least-squares prunes of synthetic models, kernels profiled, ${describeEnvironment(result)}`,
  tables: [pointsTable(result.points), growthTable(result.growth), forecastTable(result.forecasts)],
  remarks: [
    "Forward, sums and solve count kernel time by timestamps; s and load are wall clock. Process memory is sampled; on a software adapter it includes the device's.",
    'The last table is arithmetic, not a measurement: docs/scale.md names its assumptions.',
  ],
});
