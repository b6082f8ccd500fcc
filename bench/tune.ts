import { type Device, type Progress, Scope } from '../engine/index.js';
import {
  type CaseVariant,
  checkVariants,
  isWrong,
  type PreparedCase,
  type Tuning,
  type TuningCase,
  tuningCases,
  variantChecks,
  verdictsOf,
} from '../kernels/index.js';
import { median, wallTime } from './measure.js';

export interface TuneOptions {
  /** After this many seconds no further class of shapes is measured (default 75). */
  seconds?: number;
  cases?: readonly TuningCase[];
  onProgress?: Progress;
  signal?: AbortSignal;
}

/** The measurements of one class of shapes. */
export interface TunedClass {
  readonly kernel: string;
  readonly shapeClass: string;
  /** Milliseconds of a run by variant, the built-in choice first; variants that were much slower at once are left out. */
  readonly milliseconds: Readonly<Record<string, number>>;
  readonly builtIn: string;
  readonly chosen: string;
}

export interface TuneResult {
  readonly tuning: Tuning;
  readonly measured: readonly TunedClass[];
  /** Classes not measured for lack of time; they keep the built-in choice. */
  readonly left: readonly string[];
  /** By variant, as in "matmul tiled 128x64": what it computed instead of the right result. Wrong variants are not timed. */
  readonly wrong: Readonly<Record<string, string>>;
  readonly seconds: number;
}

/** A variant whose first warm run is this much slower than the best is dropped. */
const HOPELESS = 1.6;
/** A variant must take less than this share of the built-in choice's time to replace it; the rest is noise. */
const WORTHWHILE = 0.93;
const ROUNDS = 7;
/** A sample repeats short runs until it takes about this long. */
const SAMPLE_MS = 4;
const MOST_REPEATS = 50;

async function measure(
  device: Device,
  kernel: string,
  prepared: PreparedCase,
  variants: readonly CaseVariant[],
  signal: AbortSignal | undefined,
): Promise<Map<string, number>> {
  const sample = (variant: CaseVariant, repeats: number) =>
    wallTime(async () => {
      for (let i = 0; i < repeats; i++) prepared.run(device.recorder, variant);
      await device.recorder.finish();
    });
  const first = new Map<CaseVariant, number>();
  for (const variant of variants) {
    signal?.throwIfAborted();
    // Compiles, and compares with the host.
    await sample(variant, 1);
    if (isWrong(device, kernel, variant.name)) continue;
    first.set(variant, await sample(variant, 1));
  }
  const best = Math.min(...first.values());
  const repeats = Math.min(MOST_REPEATS, Math.max(1, Math.ceil(SAMPLE_MS / best)));
  const right = [...first.keys()];
  const running = right.filter((variant, i) => i === 0 || first.get(variant)! <= HOPELESS * best);
  const times = running.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, variant] of running.entries()) {
      signal?.throwIfAborted();
      times[i]!.push((await sample(variant, repeats)) / repeats);
    }
  }
  return new Map(running.map(({ name }, i) => [name, median(times[i]!)]));
}

/**
 * Compares the variants of every class of shapes on this device with the host, times the right ones in turns, and chooses
 * the fastest if it clearly beats the built-in choice.
 */
export async function tune(device: Device, options: TuneOptions = {}): Promise<TuneResult> {
  const { seconds = 75, cases = tuningCases(device), onProgress, signal } = options;
  checkVariants(device, variantChecks, undefined, { goesOn: true });
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const tuning: Record<string, Record<string, string>> = {};
  const measured: TunedClass[] = [];
  const left: string[] = [];
  for (const [i, { shapeClass, item }] of cases.entries()) {
    signal?.throwIfAborted();
    if (elapsed() > seconds) {
      left.push(...cases.slice(i).map(rest => `${rest.item.kernel} ${rest.shapeClass}`));
      onProgress?.({ phase: 'tune', done: i, total: i, unit: 'shapes' });
      break;
    }
    const variants = item.variants?.(device) ?? [];
    if (variants.length > 1) {
      using scope = new Scope(device);
      const times = await measure(device, item.kernel, await item.setup(scope), variants, signal);
      // The built-in choice, or what takes its place where it is wrong.
      const [builtIn] = times.keys();
      if (builtIn === undefined) continue;
      const [fastest, least] = [...times].reduce((a, b) => (b[1] < a[1] ? b : a));
      const chosen = least < WORTHWHILE * times.get(builtIn)! ? fastest : builtIn;
      // Where the built-in choice wins, store nothing: it decides by the exact shape, not by the class.
      if (chosen !== builtIn) tuning[item.kernel] = { ...tuning[item.kernel], [shapeClass]: chosen };
      measured.push({
        kernel: item.kernel,
        shapeClass,
        milliseconds: Object.fromEntries(times),
        builtIn,
        chosen,
      });
    }
    onProgress?.({ phase: 'tune', done: i + 1, total: cases.length, unit: 'shapes' });
  }
  return { tuning, measured, left, wrong: verdictsOf(device)?.wrong ?? {}, seconds: elapsed() };
}
