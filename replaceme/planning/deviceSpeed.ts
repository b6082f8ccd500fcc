import { type AdapterInfo, byteSize, type DeviceFeatures } from '../../engine/index.js';
import {
  chooseGatedMatmul,
  chooseMatmul,
  type FactorTypes,
  type MatmulChoice,
  type ProductExtents,
  partsOf,
  productsOf,
} from '../../kernels/index.js';
import { type Compiler, type HotLoop, multiplyAddShares } from './hotLoops.js';

/** What a device does at the most: by its data sheet, or as `bench peak` measures it. GFLOP/s and GB/s are 10^9 a second. */
export interface DeviceSpeed {
  /** f32 multiply-adds, two operations each. */
  readonly f32Gflops: number;
  /** Matrix units on f16 with f32 sums. */
  readonly matrixGflops?: number;
  readonly memoryGigabytes: number;
  /** Host to device. */
  readonly uploadGigabytes: number;
  /** Of a dispatch among many, and of one that is waited for. */
  readonly dispatchMicroseconds: number;
  readonly roundTripMicroseconds: number;
  /** What kernels choose their variants by. */
  readonly info: Omit<AdapterInfo, 'architecture'>;
  readonly features: Omit<DeviceFeatures, 'timestamps'>;
}

/** What a kernel does. */
export interface KernelWork {
  readonly flops: number;
  /** Each operand once. */
  readonly bytes: number;
}

/**
 * Share of its instructions that a GPU issues on time: a WGSL product of tiles 128 x 64, 0.90 of whose instructions are multiply-adds,
 * was reported to reach 14.8 of an A100's 19.5 TFLOP/s.
 */
export const ISSUED = 0.84;
/** Share of the matrix units' rate that products in WGSL reach: 102 of an RTX PRO 6000's 504 TFLOP/s were reported, the most so far. */
export const MATRIX_SHARE = 0.2;
/** Share of the memory's rate that kernels on GPUs reach. */
export const MEMORY_SHARE = 0.8;

/**
 * Software drivers: shares of the multiply-add rate for kernels of many rows, and of the rate at which a kernel reads memory for
 * others, as `bench kernels` measured their variants on lavapipe (docs/kernels.md).
 */
const software = {
  ...{
    product: { 2: 0.12, 4: 0.2, 8: 0.22, 16: 0.31, 32: 0.36 },
    gated: { 2: 0.12, 4: 0.2, 8: 0.34, 16: 0.41, 32: 0.41 },
  },
  ...{ attention: 0.15, 'exact sums': 0.28, solve: 0.12 },
  ...{ weights: 1, cache: 0.6, rows: 0.4 },
} as const;

export const compilerOf = ({ kind, vendor }: DeviceSpeed['info']): Compiler =>
  kind === 'software' ? 'software' : vendor === 'amd' ? 'amd' : 'nvidia';

function arithmeticShare({ info }: DeviceSpeed, loop: HotLoop): number {
  const compiler = compilerOf(info);
  if (compiler !== 'software') return ISSUED * multiplyAddShares[compiler][loop];
  return loop === 'attention' || loop === 'exact sums' || loop === 'solve'
    ? software[loop]
    : software.product[32];
}

/** Of the memory's rate: reading weights or cached keys for a few rows, or going over rows. */
const memoryShare = ({ info }: DeviceSpeed, what: 'weights' | 'cache' | 'rows'): number =>
  info.kind === 'software' ? software[what] : MEMORY_SHARE;

/** Seconds of a kernel that computes at a rate while its operands come from memory. */
function seconds(speed: DeviceSpeed, { flops, bytes }: KernelWork, gflops: number, memory: number): number {
  const arithmetic = flops / (gflops * 1e9);
  const traffic = bytes / (memory * speed.memoryGigabytes * 1e9);
  return Math.max(arithmetic, traffic) + speed.dispatchMicroseconds / 1e6;
}

/** The tiles of a product in f32 as the table of hot loops names them. */
const tilesOf = ({ rows, columns }: Extract<MatmulChoice, { variant: 'tiled' }>, gated: boolean): HotLoop =>
  `${gated ? 'gated' : 'tiled'} ${rows}x${columns}` as HotLoop;

/** The rate at which a variant computes a product, in GFLOP/s. */
function productGflops(speed: DeviceSpeed, choice: MatmulChoice, types: FactorTypes): number {
  const gated = types.length === 3;
  switch (choice.variant) {
    case 'matvec':
      return speed.f32Gflops;
    case 'broadcast':
      return speed.f32Gflops * software[gated ? 'gated' : 'product'][choice.rows];
    case 'tiled':
      return speed.f32Gflops * arithmeticShare(speed, tilesOf(choice, gated));
    case 'subgroupMatrix': {
      const parts = productsOf(partsOf(types[0], choice.single), partsOf(types[1], choice.single)).length;
      return ((speed.matrixGflops ?? speed.f32Gflops) * MATRIX_SHARE) / parts;
    }
  }
}

/** Seconds of a product with weights stored as [n,k], by the variant that the kernels choose. */
export function productSeconds(speed: DeviceSpeed, { m, n, k }: ProductExtents, types: FactorTypes): number {
  const [a, b, up] = types;
  const { info, features } = speed;
  const choice = up
    ? chooseGatedMatmul(info, features, { m, n, k }, types)
    : chooseMatmul(info, features, { m, n, k, transposeA: false, transposeB: true }, { a, b });
  const flops = 2 * m * n * k * (up ? 2 : 1);
  const bytes = m * k * byteSize(a) + n * k * (byteSize(b) + (up ? byteSize(up) : 0)) + 4 * m * n;
  const matvec = choice.variant === 'matvec';
  return seconds(
    speed,
    { flops, bytes },
    productGflops(speed, choice, types),
    matvec || info.kind !== 'software' ? memoryShare(speed, 'weights') : 1,
  );
}

/** Seconds of attention, many queries by their arithmetic, a few by the keys and values that they read. */
export const attentionSeconds = (speed: DeviceSpeed, work: KernelWork): number =>
  seconds(speed, work, speed.f32Gflops * arithmeticShare(speed, 'attention'), memoryShare(speed, 'cache'));

/** Seconds of sums in 48 bits of so many multiply-adds in f32. */
export const exactSumsSeconds = (speed: DeviceSpeed, work: KernelWork): number =>
  seconds(speed, work, speed.f32Gflops * arithmeticShare(speed, 'exact sums'), memoryShare(speed, 'rows'));

/** Seconds of products of blocks, of which factors and solutions of linear systems are made. */
export const solveSeconds = (speed: DeviceSpeed, work: KernelWork): number =>
  seconds(speed, work, speed.f32Gflops * arithmeticShare(speed, 'solve'), 1);

/** Seconds of a kernel that goes over rows once. */
export const rowsSeconds = (speed: DeviceSpeed, bytes: number): number =>
  seconds(speed, { flops: 0, bytes }, speed.f32Gflops, memoryShare(speed, 'rows'));
