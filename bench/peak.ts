import { type Device, download, type Progress, Scope, Tensor, upload } from '../engine/index.js';
import { type Clock, clockOf } from './clock.js';
import {
  type Benchmark,
  type BenchText,
  describeEnvironment,
  digits,
  environment,
  left,
  type MeasureOptions,
  type Metric,
  right,
  wallTime,
} from './measure.js';
import { type PeakRates, peakFields } from './peakRates.js';
import { INVOCATIONS, probeCopy, probeFma, probeNothing, probeRead } from './probes.js';

export interface PeakBenchmark extends Benchmark {
  readonly peak: PeakRates;
}

/** Numbers of independent chains to try: too few do not hide latency, too many spill registers. */
const CHAINS = [2, 4, 8];
/** About how long a sample of a probe takes. */
const SAMPLE_MS = { software: 60, gpu: 10 } as const;
const DISPATCHES = 1000;

/** How peaks are measured. */
export interface PeakOptions extends MeasureOptions {
  /** Of arithmetic and of kernels that go over memory (default: timestamps or the wall clock). */
  readonly clock?: Clock;
}

/** Milliseconds of the fastest run, after a warm-up: slower runs were disturbed. */
async function fastestTime(run: () => unknown, { samples = 5, signal }: MeasureOptions): Promise<number> {
  await run();
  let fastest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < samples; i++) {
    signal?.throwIfAborted();
    fastest = Math.min(fastest, await wallTime(run));
  }
  return fastest;
}

/** GFLOP/s of multiply-adds: the best sample over all numbers of chains. */
export async function fmaRate(device: Device, type: 'f32' | 'f16', options: PeakOptions): Promise<number> {
  const { info } = device;
  const { clock = clockOf(device) } = options;
  using out = Tensor.create(device, [INVOCATIONS * (info.kind === 'software' ? 256 : 16384)]);
  let best = 0;
  for (const chains of CHAINS) {
    let flops = 0;
    const run = (iterations: number) =>
      clock(rec => {
        flops = probeFma(rec, out, { type, chains, iterations });
      }, 1);
    await run(1);
    let iterations = 16;
    // Long enough for a sample, but too short for a driver to kill the dispatch.
    while ((await run(iterations)) < SAMPLE_MS[info.kind] / 2 && iterations < 1 << 22) iterations *= 2;
    for (let i = 0; i < (options.samples ?? 5); i++) {
      options.signal?.throwIfAborted();
      const milliseconds = await run(iterations);
      best = Math.max(best, flops / milliseconds / 1e6);
    }
  }
  return best;
}

/** Too many bytes for a cache, few enough for every device. */
const memoryBytes = (device: Device): number =>
  Math.min(
    device.info.kind === 'software' ? 128 << 20 : 512 << 20,
    device.limits.maxStorageBufferBindingSize,
    Math.floor(device.memory.limit / 4 / 4096) * 4096,
  );

/** GB/s of kernels that read and copy, of copies of buffers, of uploads and downloads. */
export async function memoryRates(device: Device, options: PeakOptions) {
  const { recorder } = device;
  using scope = new Scope(device);
  const a = scope.tensor([memoryBytes(device) / 4]);
  const b = scope.tensor(a.shape);
  const sums = scope.tensor([INVOCATIONS * (device.info.kind === 'software' ? 256 : 4096)]);
  recorder.clear(a);
  const rate = async (bytes: number, run: () => unknown) => bytes / (await fastestTime(run, options)) / 1e6;
  const { clock = clockOf(device) } = options;
  const kernelRate = async (bytes: number, record: () => void) => {
    await clock(record, 1);
    const times: number[] = [];
    for (let i = 0; i < (options.samples ?? 5); i++) {
      options.signal?.throwIfAborted();
      times.push(await clock(record, 1));
    }
    return bytes / Math.min(...times) / 1e6;
  };
  const host = new Uint8Array(a.byteLength);
  return {
    readGigabytes: await kernelRate(a.byteLength, () => probeRead(recorder, a, sums)),
    copyGigabytes: await kernelRate(2 * a.byteLength, () => probeCopy(recorder, a, b)),
    // No dispatch, so no timestamps.
    bufferCopyGigabytes: await rate(2 * a.byteLength, () => {
      recorder.copy(a, b);
      return recorder.finish();
    }),
    uploadGigabytes: await rate(a.byteLength, async () => {
      await upload(a, host);
      await recorder.finish();
    }),
    downloadGigabytes: await rate(a.byteLength, () => download(a)),
  };
}

/** Times of recording a dispatch, of one among many that depend on each other, and of one alone. */
export async function dispatchTimes(device: Device, options: MeasureOptions) {
  const { recorder } = device;
  using out = Tensor.create(device, [1], 'u32');
  const encode: number[] = [];
  const total = await fastestTime(async () => {
    const started = performance.now();
    for (let i = 0; i < DISPATCHES; i++) probeNothing(recorder, out);
    recorder.flush();
    encode.push(performance.now() - started);
    await recorder.finish();
  }, options);
  const alone = await fastestTime(() => {
    probeNothing(recorder, out);
    return recorder.finish();
  }, options);
  return {
    encodeMicroseconds: (1000 * Math.min(...encode)) / DISPATCHES,
    dispatchMicroseconds: (1000 * total) / DISPATCHES,
    roundTripMicroseconds: 1000 * alone,
  };
}

/**
 * Measures the adapter's peak rates with long enough work, by wall clock: open the device without `profile`, which slows
 * dispatches.
 */
export async function benchPeak(
  device: Device,
  options: PeakOptions & { onProgress?: Progress } = {},
): Promise<PeakBenchmark> {
  let done = 0;
  const step = async <T>(work: Promise<T>): Promise<T> => {
    const result = await work;
    options.signal?.throwIfAborted();
    options.onProgress?.({ phase: 'peak', done: ++done, total: device.features.f16 ? 4 : 3, unit: 'probes' });
    return result;
  };
  const f32Gflops = await step(fmaRate(device, 'f32', options));
  const f16Gflops = device.features.f16 ? await step(fmaRate(device, 'f16', options)) : undefined;
  const peak: PeakRates = {
    f32Gflops,
    ...(f16Gflops !== undefined && { f16Gflops }),
    ...(await step(memoryRates(device, options))),
    ...(await step(dispatchTimes(device, options))),
  };
  const metrics = peakFields.flatMap(([field, name, unit]): Metric[] => {
    const value = peak[field];
    return value === undefined ? [] : [{ name, value, unit, better: unit === 'us' ? 'lower' : 'higher' }];
  });
  return { bench: 'peak', ...environment(device), metrics, peak };
}

export const peakText = (result: PeakBenchmark): BenchText => ({
  description: `wall clock, the fastest sample, ${describeEnvironment(result)}`,
  tables: [
    {
      columns: [left('operation'), right('rate'), left('unit')],
      rows: result.metrics.map(({ name, value, unit }) => [name, digits(value), unit]),
    },
  ],
});
