import type { AdapterInfo, Device } from '../engine/index.js';

/** One number of a benchmark, by a name that stays: baselines are compared by it. */
export interface Metric {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
}

export interface BenchTable {
  readonly columns: readonly { readonly title: string; readonly align?: 'left' | 'right' }[];
  readonly rows: readonly (readonly string[])[];
}

/** What every benchmark returns; each adds its own fields. */
export interface Benchmark {
  /** "kernels", "prefill", ... */
  readonly bench: string;
  readonly adapter: AdapterInfo;
  readonly node: string;
  readonly platform: string;
  readonly date: string;
  readonly metrics: readonly Metric[];
}

/** What people read: a line on how it was measured, tables, remarks. */
export interface BenchText {
  readonly description: string;
  readonly tables: readonly BenchTable[];
  readonly remarks?: readonly string[];
}

export interface MeasureOptions {
  /** Measurements of which the median is taken, after a warm-up. */
  readonly samples?: number;
  readonly signal?: AbortSignal;
}

/** Where and when something was measured. */
export const environment = (device: Device) => ({
  adapter: device.info,
  node: process.version,
  platform: `${process.platform} ${process.arch}`,
  date: new Date().toISOString().slice(0, 10),
});

/** "Node v20.1.0, linux x64, 2026-01-31" */
export const describeEnvironment = ({ node, platform, date }: Benchmark): string =>
  `Node ${node}, ${platform}, ${date}`;

/** Middle value; of an even number the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** Milliseconds of `run`, which waits for the device itself. */
export async function wallTime(run: () => unknown): Promise<number> {
  const started = performance.now();
  await run();
  return performance.now() - started;
}

/** Median milliseconds of `samples` runs after one that does not count. */
export async function medianTime(
  run: () => unknown,
  { samples = 7, signal }: MeasureOptions = {},
): Promise<number> {
  await run();
  const times: number[] = [];
  for (let i = 0; i < samples; i++) {
    signal?.throwIfAborted();
    times.push(await wallTime(run));
  }
  return median(times);
}

/** Three significant digits, never in the form 1.23e+3. */
export const digits = (value: number): string =>
  value >= 100 || value === 0 ? `${Math.round(value)}` : value.toPrecision(3);

/** "12.3 %" */
export const percent = (share: number): string =>
  `${100 * share >= 10 ? (100 * share).toFixed(0) : (100 * share).toFixed(1)} %`;

export const left = (title: string) => ({ title });
export const right = (title: string) => ({ title, align: 'right' as const });
