/** Whose compiler makes a device's programs, as far as its shares are known; other GPUs are taken for NVIDIA's. */
export type Compiler = 'nvidia' | 'amd' | 'software';

/** Kernels whose time is arithmetic, by variant. */
export type HotLoop =
  | 'tiled 64x64'
  | 'tiled 128x64'
  | 'tiled 128x128'
  | 'gated 64x128'
  | 'gated 128x128'
  | 'attention'
  | 'exact sums'
  | 'solve';

/**
 * Shares of multiply-adds among the vector instructions of the hot loops, as scripts/gpuReports.mjs finds them in what
 * NVK compiles for Ampere and RADV for Navi 31 (docs/kernels.md); test/gpuCompilers.test.ts compares.
 */
export const multiplyAddShares: Readonly<
  Record<Exclude<Compiler, 'software'>, Readonly<Record<HotLoop, number>>>
> = {
  nvidia: {
    ...{ 'tiled 64x64': 0.79, 'tiled 128x64': 0.9, 'tiled 128x128': 0.91 },
    ...{ 'gated 64x128': 0.9, 'gated 128x128': 0.91 },
    ...{ attention: 0.6, 'exact sums': 0.86, solve: 0.78 },
  },
  amd: {
    ...{ 'tiled 64x64': 0.95, 'tiled 128x64': 0.98, 'tiled 128x128': 0.99 },
    ...{ 'gated 64x128': 0.98, 'gated 128x128': 0.99 },
    ...{ attention: 0.91, 'exact sums': 0.92, solve: 0.88 },
  },
};
