import { type Device, type Progress, type Recorder, RmError, Scope } from '../engine/index.js';
import type { KernelCase, PreparedCase } from '../kernels/index.js';
import { type Clock, clockOf } from './clock.js';
import {
  type Benchmark,
  type BenchText,
  describeEnvironment,
  digits,
  environment,
  left,
  type MeasureOptions,
  median,
  right,
} from './measure.js';
import { formatShare, type PeakRates, shareOfPeak } from './peakRates.js';

/** What is timed: a case, or a sampled one. */
export type TimedCase = Pick<KernelCase, 'kernel' | 'name' | 'flops' | 'bytes' | 'variants'> & {
  setup(scope: Scope): Promise<Pick<PreparedCase, 'run'>> | Pick<PreparedCase, 'run'>;
};

export interface KernelTiming {
  readonly kernel: string;
  readonly name: string;
  /** One warm run, the median of `samples`; without compilation, upload and readback. */
  readonly milliseconds: number;
  readonly fastest: number;
  readonly samples: number;
  readonly gflops: number;
  /** GB/s (10^9 bytes) of the least traffic that the case needs. */
  readonly gigabytes: number;
  /** Share of the adapter's nearer peak, if peaks were given. */
  readonly ofPeak?: number;
  readonly peak?: 'fma' | 'memory';
}

export interface KernelBenchmark extends Benchmark {
  /** "gpu": timestamp queries around every dispatch; "wall": time until the queue is empty, over many runs. */
  readonly clock: 'gpu' | 'wall';
  /** Which shapes were timed, and why. */
  readonly shapes: string;
  readonly timings: readonly KernelTiming[];
  /** Cases that this device cannot run, with the reason. */
  readonly skipped: readonly { readonly kernel: string; readonly name: string; readonly reason: string }[];
}

export interface KernelBenchOptions extends MeasureOptions {
  /** This adapter's peaks; adds the share of the nearer one to every timing. */
  readonly peak?: PeakRates | undefined;
  /** Times every variant that the device can run, instead of the kernel's own choice. */
  readonly variants?: boolean;
  /** Which shapes the cases have, and why: goes into the result. */
  readonly shapes?: string;
  readonly onProgress?: Progress;
}

/** A sample repeats short kernels until it takes about this long: overhead dominates single dispatches. */
const SAMPLE_MS = 5;
const MOST_REPEATS = 100;

/** One timing, or with `variants` one for each that the device can run, their samples in turns. */
async function timeCase(
  device: Device,
  item: TimedCase,
  clock: Clock,
  samples: number,
  { peak, variants = false }: KernelBenchOptions,
): Promise<KernelTiming[]> {
  using scope = new Scope(device);
  const prepared = await item.setup(scope);
  const chosen = (variants && item.variants?.(device)) || [undefined];
  const runs = chosen.map(variant => ({
    variant,
    run: (rec: Recorder) => prepared.run(rec, variant),
    repeats: 1,
    times: [] as number[],
  }));
  for (const one of runs) {
    await clock(one.run, 1);
    const once = await clock(one.run, 1);
    one.repeats = Math.min(MOST_REPEATS, Math.max(1, Math.ceil(SAMPLE_MS / Math.max(once, 1e-3))));
  }
  for (let i = 0; i < samples; i++) {
    for (const { run, repeats, times } of runs) times.push(await clock(run, repeats));
  }
  return runs.map(({ variant, times }) => {
    const milliseconds = median(times);
    const reached = peak && shareOfPeak({ ...item, milliseconds }, peak);
    return {
      kernel: item.kernel,
      name: variant ? `${item.name}: ${variant.name}` : item.name,
      milliseconds,
      fastest: Math.min(...times),
      samples,
      gflops: item.flops / milliseconds / 1e6,
      gigabytes: item.bytes / milliseconds / 1e6,
      ...(reached && { ofPeak: reached.share, peak: reached.of }),
    };
  });
}

/** Whether the device is too small for the case, rather than the kernel wrong. */
const cannotRun = (error: unknown): error is RmError =>
  error instanceof RmError && ['ADAPTER_UNSUITABLE', 'OUT_OF_MEMORY'].includes(error.code);

/**
 * Times every case on an open device: by timestamp queries if the device was opened with `profile` and has them, else
 * by wall clock.
 */
export async function benchKernels(
  device: Device,
  cases: readonly TimedCase[],
  options: KernelBenchOptions = {},
): Promise<KernelBenchmark> {
  const { samples = 7, shapes = '', onProgress, signal } = options;
  const clock = clockOf(device);
  const timings: KernelTiming[] = [];
  const skipped: { kernel: string; name: string; reason: string }[] = [];
  for (const [i, item] of cases.entries()) {
    signal?.throwIfAborted();
    try {
      timings.push(...(await timeCase(device, item, clock, Math.max(5, samples), options)));
    } catch (error) {
      if (!cannotRun(error)) throw error;
      skipped.push({ kernel: item.kernel, name: item.name, reason: error.message });
    }
    onProgress?.({ phase: 'bench', done: i + 1, total: cases.length, unit: 'cases' });
  }
  return {
    ...{ bench: 'kernels', ...environment(device), clock: device.profiler ? 'gpu' : 'wall' },
    ...{ shapes, timings, skipped },
    metrics: timings.map(({ kernel, name, milliseconds }) => ({
      ...{ name: `${kernel} ${name}`, value: milliseconds, unit: 'ms', better: 'lower' as const },
    })),
  };
}

/** Cells of one timing; rates stay empty for cases without arithmetic or traffic. */
const timingCells = ({ kernel, name, milliseconds, gflops, gigabytes }: KernelTiming): string[] => [
  kernel,
  name,
  digits(milliseconds),
  gflops > 0 ? digits(gflops) : '',
  gigabytes > 0 ? digits(gigabytes) : '',
];

export function kernelsText(result: KernelBenchmark): BenchText {
  const { clock, shapes, timings, skipped } = result;
  const hasPeaks = timings.some(({ ofPeak }) => ofPeak !== undefined);
  return {
    description: `${clock === 'gpu' ? 'GPU timestamps' : 'wall clock'}, median of ${timings[0]?.samples ?? 0}, ${describeEnvironment(result)}`,
    tables: [
      {
        columns: [
          ...[left('kernel'), left('case'), right('ms'), right('GFLOP/s'), right('GB/s')],
          ...(hasPeaks ? [right('of peak')] : []),
        ],
        rows: timings.map(timing => [
          ...timingCells(timing),
          ...(hasPeaks ? [formatShare(timing.ofPeak, timing.peak)] : []),
        ]),
      },
    ],
    remarks: [
      ...(shapes ? [shapes] : []),
      ...skipped.map(({ kernel, name, reason }) => `Not run: ${kernel} ${name} (${reason}).`),
    ],
  };
}
