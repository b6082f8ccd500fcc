import { type Form, finite, optional, record } from '../engine/index.js';
import { percent } from './measure.js';

/** The highest rates measured on this adapter. GFLOP/s and GB/s are 10^9 per second; a multiply-add counts as two. */
export interface PeakRates {
  readonly f32Gflops: number;
  /** Only where the device has shader-f16. */
  readonly f16Gflops?: number;
  /** A kernel reads device memory; a kernel reads and writes it, both counted; a buffer copy, both counted. */
  readonly readGigabytes: number;
  readonly copyGigabytes: number;
  readonly bufferCopyGigabytes: number;
  /** Host to device for weights, device to host for results. */
  readonly uploadGigabytes: number;
  readonly downloadGigabytes: number;
  /** Host time to record and submit a dispatch; time of a dispatch among many; of a single one, waiting for it. */
  readonly encodeMicroseconds: number;
  readonly dispatchMicroseconds: number;
  readonly roundTripMicroseconds: number;
}

/** Field, name in tables and baselines, unit. */
export const peakFields: readonly (readonly [keyof PeakRates, string, string])[] = [
  ['f32Gflops', 'multiply-add f32', 'GFLOP/s'],
  ['f16Gflops', 'multiply-add f16', 'GFLOP/s'],
  ['readGigabytes', 'memory, read', 'GB/s'],
  ['copyGigabytes', 'memory, read and write', 'GB/s'],
  ['bufferCopyGigabytes', 'memory, copy of buffers', 'GB/s'],
  ['uploadGigabytes', 'upload', 'GB/s'],
  ['downloadGigabytes', 'download', 'GB/s'],
  ['encodeMicroseconds', 'recording a dispatch on the host', 'us'],
  ['dispatchMicroseconds', 'a dispatch in a row of 1000', 'us'],
  ['roundTripMicroseconds', 'a dispatch waited for alone', 'us'],
];

const rate = finite(Number.MIN_VALUE);

/** The form of PeakRates in a file. */
export const peakForm = record(
  Object.fromEntries(peakFields.map(([field]) => [field, field === 'f16Gflops' ? optional(rate) : rate])),
) as unknown as Form<PeakRates>;

export interface PeakShare {
  /** Time at the peak rate / measured time. Above 1 where data stay in a cache or matrix units do the work. */
  readonly share: number;
  /** The nearer peak. */
  readonly of: 'fma' | 'memory';
}

/** Roofline: the larger share of the f32 multiply-add rate and the memory rate. */
export function shareOfPeak(
  { flops, bytes, milliseconds }: { flops: number; bytes: number; milliseconds: number },
  peak: PeakRates,
): PeakShare | undefined {
  if (!(milliseconds > 0) || (flops <= 0 && bytes <= 0)) return undefined;
  const arithmetic = flops / milliseconds / 1e6 / peak.f32Gflops;
  const memory = Math.max(peak.readGigabytes, peak.copyGigabytes, peak.bufferCopyGigabytes);
  const traffic = bytes / milliseconds / 1e6 / memory;
  return arithmetic >= traffic ? { share: arithmetic, of: 'fma' } : { share: traffic, of: 'memory' };
}

/** "71 % memory", or "" if the share is unknown. */
export const formatShare = (share: number | undefined, of: PeakShare['of'] | undefined): string =>
  share === undefined ? '' : `${percent(share)} ${of}`;
