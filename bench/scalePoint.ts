/** The sizes that are varied, one at a time. */
export const scaleAxes = ['tokens', 'layers', 'hidden', 'shards', 'files'] as const;
export type ScaleAxis = (typeof scaleAxes)[number];

/** Sizes of one run. Heads have 64 columns, the MLP three times the hidden dimension. */
export interface ScaleSizes {
  readonly tokens: number;
  readonly layers: number;
  readonly hidden: number;
  /** Parts of the calibration data; one of them is measured, 1 is a whole prune. */
  readonly shards: number;
  /** Files of the checkpoint's weights. */
  readonly files: number;
}

/** Times and memory of one run; seconds are kernel time by timestamps unless noted. */
export interface ScaleTimes {
  /** The whole run, wall clock. */
  readonly seconds: number;
  /** Reading and uploading the weights, wall clock. */
  readonly load: number;
  /** Forward passes of the layers. */
  readonly forward: number;
  /** G and C. */
  readonly sums: number;
  readonly solve: number;
  /** Peak device memory. */
  readonly deviceBytes: number;
  /** Peak memory of the process, sampled; on a software adapter it includes the device's. */
  readonly hostBytes: number;
}

export interface ScalePoint extends ScaleTimes {
  readonly axis: ScaleAxis;
  readonly sizes: ScaleSizes;
}
