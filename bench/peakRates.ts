import { percent } from './measure.js';

/** The fastest that this adapter was seen to be. GFLOP/s and GB/s are 10^9 a second; a multiply-add counts as two. */
export interface PeakRates {
  readonly f32Gflops: number;
  /** Where the device has shader-f16. */
  readonly f16Gflops?: number;
  /** Reading device memory in a kernel; reading and writing it, both counted; the same by a copy of buffers. */
  readonly readGigabytes: number;
  readonly copyGigabytes: number;
  readonly bufferCopyGigabytes: number;
  /** Host to device and back, as weights and results go. */
  readonly uploadGigabytes: number;
  readonly downloadGigabytes: number;
  /** Host time to record and submit a dispatch; time of a dispatch in a long row of them; of one waited for alone. */
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

const optionalFields: readonly (keyof PeakRates)[] = ['f16Gflops'];

/** Whether a value read from somewhere has the form of PeakRates. */
export function isPeakRates(value: unknown): value is PeakRates {
  if (typeof value !== 'object' || value === null) return false;
  return peakFields.every(([field]) => {
    const rate = (value as Partial<PeakRates>)[field];
    if (rate === undefined) return optionalFields.includes(field);
    return typeof rate === 'number' && Number.isFinite(rate) && rate > 0;
  });
}

export interface PeakShare {
  /** Time at the peak over the time taken. Above 1 where data stay in a cache, or matrix units do the work. */
  readonly share: number;
  /** Which peak is the nearer one. */
  readonly of: 'fma' | 'memory';
}

/** The roofline: the larger of the shares of the f32 multiply-add rate and of the memory rate. */
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

/** "71 % memory"; nothing where the share is not known. */
export const formatShare = (share: number | undefined, of: PeakShare['of'] | undefined): string =>
  share === undefined ? '' : `${percent(share)} ${of}`;
