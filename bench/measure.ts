import type { AdapterInfo, Device } from '../engine/index.js';

/** One number of a benchmark. Baselines are compared by name, so names must not change. */
export interface Metric {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  /** What the model of speed expects (replaceme/planning/deviceSpeed.ts), where it does. */
  readonly predicted?: number;
}

export interface BenchTable {
  readonly columns: readonly { readonly title: string; readonly align?: 'left' | 'right' }[];
  readonly rows: readonly (readonly string[])[];
}

/** The result of every benchmark; each adds its own fields. */
export interface Benchmark {
  /** "kernels", "prefill", ... */
  readonly bench: string;
  readonly adapter: AdapterInfo;
  readonly node: string;
  readonly platform: string;
  readonly date: string;
  readonly metrics: readonly Metric[];
}

/** A benchmark's result for people: a line on how it was measured, tables, remarks. */
export interface BenchText {
  readonly description: string;
  readonly tables: readonly BenchTable[];
  readonly remarks?: readonly string[];
}

/** How a time is measured. */
export interface MeasureOptions {
  /** Measurements after a warm-up; their median counts. */
  readonly samples?: number;
  readonly signal?: AbortSignal;
}

/** Where and when a benchmark was measured. */
export const environment = ({ info }: Pick<Device, 'info'>) => ({
  adapter: info,
  node: process.version,
  platform: `${process.platform} ${process.arch}`,
  date: new Date().toISOString().slice(0, 10),
});

/** "Node v20.1.0, linux x64, 2026-01-31" */
export const describeEnvironment = ({ node, platform, date }: Benchmark): string =>
  `Node ${node}, ${platform}, ${date}`;

/** The middle value, or the mean of the middle two. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** Milliseconds of `run`, which must wait for the device itself. */
export async function wallTime(run: () => unknown): Promise<number> {
  const started = performance.now();
  await run();
  return performance.now() - started;
}

/** Median milliseconds of `samples` runs, after a warm-up. */
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

/** `samples` results of two runs that take turns, after a warm-up of both. */
export async function inTurns<T>(
  first: () => Promise<T>,
  second: () => Promise<T>,
  { samples = 3, signal }: MeasureOptions = {},
): Promise<[first: T, second: T][]> {
  await first();
  await second();
  const results: [T, T][] = [];
  for (let sample = 0; sample < samples; sample++) {
    signal?.throwIfAborted();
    results.push([await first(), await second()]);
  }
  return results;
}

/** Three significant digits, never as 1.23e+3. */
export const digits = (value: number): string =>
  value >= 100 || value === 0 ? `${Math.round(value)}` : value.toPrecision(3);

/** "12.3 %" */
export const percent = (share: number): string =>
  `${100 * share >= 10 ? (100 * share).toFixed(0) : (100 * share).toFixed(1)} %`;

export const left = (title: string) => ({ title });
export const right = (title: string) => ({ title, align: 'right' as const });
