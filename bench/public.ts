export type { CaseVariant } from '../kernels/index.js';
export {
  type KernelBenchmark,
  type KernelBenchOptions,
  type KernelTiming,
  measure,
  type PreparedTiming,
  type TimedCase,
} from './kernels.js';
export type { Benchmark, MeasureOptions, Metric } from './measure.js';
export type { PeakRates } from './peakRates.js';
