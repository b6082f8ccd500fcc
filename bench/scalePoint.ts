/** What is varied, one at a time. */
export const scaleAxes = ['tokens', 'layers', 'hidden', 'shards', 'files'] as const;
export type ScaleAxis = (typeof scaleAxes)[number];

/** Sizes of one run. Heads have 64 columns, the MLP three times the hidden dimension. */
export interface ScaleSizes {
  readonly tokens: number;
  readonly layers: number;
  readonly hidden: number;
  /** Parts of the calibration data, of which one is measured: 1 is a whole prune. */
  readonly shards: number;
  /** Files that the weights are in. */
  readonly files: number;
}

/** Of one run; seconds of kernels by timestamps where nothing else is said. */
export interface ScaleTimes {
  /** From beginning to end, by the clock. */
  readonly seconds: number;
  /** Reading and uploading the weights, by the clock. */
  readonly load: number;
  /** The layers' passes. */
  readonly forward: number;
  /** G and C. */
  readonly sums: number;
  readonly solve: number;
  /** Device memory at the most. */
  readonly deviceBytes: number;
  /** Memory of the process at the most, sampled; on a software adapter with the device's in it. */
  readonly hostBytes: number;
}

export interface ScalePoint extends ScaleTimes {
  readonly axis: ScaleAxis;
  readonly sizes: ScaleSizes;
}
