import {
  atLeastZero,
  callable,
  checkArguments,
  Device,
  flag,
  instanceOf,
  listOf,
  objectWith,
  optional,
  type Progress,
  type Recorder,
  RmError,
  Scope,
  settings,
  text,
  whole,
} from '../engine/index.js';
import type { CaseVariant } from '../kernels/index.js';
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
import { formatShare, type PeakRates, peakForm, shareOfPeak } from './peakRates.js';

/** What is timed: the package's own cases are such, and yours may be. */
export interface TimedCase<V extends CaseVariant = CaseVariant> {
  /** Of which kernel it is a case, and which one: shape and dtypes, say. */
  readonly kernel: string;
  readonly name: string;
  /** The least arithmetic and traffic that it needs, for GFLOP/s and GB/s (default 0: not printed). */
  readonly flops?: number;
  readonly bytes?: number;
  /** The variants that the device can run, its own choice first; left out where there is only one. */
  variants?(device: Device): readonly V[];
  /** Makes the tensors, which belong to `scope`; `run` records the kernel once. */
  setup(scope: Scope): PreparedTiming<V> | Promise<PreparedTiming<V>>;
}

/** A case with its tensors on the device. */
export interface PreparedTiming<V extends CaseVariant = CaseVariant> {
  /** Records the case once. */
  run(rec: Recorder, variant?: V): void;
}

/** The time of a case, or of one of its variants. */
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

/** What `measure` returns, and `rm-engine bench kernels --json` prints. */
export interface KernelBenchmark extends Benchmark {
  /** "gpu": timestamp queries around every dispatch; "wall": time until the queue is empty, over many runs. */
  readonly clock: 'gpu' | 'wall';
  /** Which shapes were timed, and why. */
  readonly shapes: string;
  readonly timings: readonly KernelTiming[];
  /** Cases that this device cannot run, with the reason. */
  readonly skipped: readonly { readonly kernel: string; readonly name: string; readonly reason: string }[];
}

/** Settings of `measure`. */
export interface KernelBenchOptions extends MeasureOptions {
  /** This adapter's peaks; adds the share of the nearer one to every timing. */
  readonly peak?: PeakRates | undefined;
  /** Times every variant that the device can run, instead of the kernel's own choice. */
  readonly variants?: boolean;
  /** Which shapes the cases have, and why: goes into the result. */
  readonly shapes?: string;
  readonly onProgress?: Progress | undefined;
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
  const { kernel, name, flops = 0, bytes = 0 } = item;
  using scope = new Scope(device);
  const prepared = await item.setup(scope);
  checkArguments(`${kernel} ${name}`, { setup: prepared }, { setup: objectWith('{ run }', 'run') });
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
    const reached = peak && shareOfPeak({ flops, bytes, milliseconds }, peak);
    return {
      kernel,
      name: variant ? `${name}: ${variant.name}` : name,
      milliseconds,
      fastest: Math.min(...times),
      samples,
      gflops: flops / milliseconds / 1e6,
      gigabytes: bytes / milliseconds / 1e6,
      ...(reached && { ofPeak: reached.share, peak: reached.of }),
    };
  });
}

/** Whether the device is too small for the case, rather than the kernel wrong. */
const cannotRun = (error: unknown): error is RmError =>
  error instanceof RmError && ['ADAPTER_UNSUITABLE', 'OUT_OF_MEMORY'].includes(error.code);

/** The form of a case. */
export const timedCase = settings<TimedCase>(
  {
    kernel: text,
    name: text,
    flops: optional(atLeastZero),
    bytes: optional(atLeastZero),
    variants: optional(callable),
    setup: callable,
  },
  'allowed',
);
const benchSettings = settings<KernelBenchOptions>({
  samples: optional(whole(1)),
  signal: optional(objectWith('an AbortSignal', 'aborted')),
  peak: optional(peakForm),
  variants: optional(flag),
  shapes: optional(text),
  onProgress: optional(callable),
});

/**
 * Times every case on an open device, the samples of a case's variants in turns: by timestamp queries if the device was
 * opened with `profile` and has them, else by wall clock. Cases that the device is too small for are listed as skipped.
 *
 * @throws RmError INVALID_ARGUMENT for what is no case, and whatever a case throws.
 */
export async function measure(
  device: Device,
  cases: readonly TimedCase[],
  options: KernelBenchOptions = {},
): Promise<KernelBenchmark> {
  checkArguments(
    'measure',
    { device, cases, options },
    { device: instanceOf(Device, 'a device'), cases: listOf(timedCase), options: benchSettings },
  );
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
