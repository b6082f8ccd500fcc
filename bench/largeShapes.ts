import type { Device, DeviceFeatures } from '../engine/index.js';
import {
  kernelCases,
  type SampledCase,
  sampledAttention,
  sampledGatedMatmul,
  sampledGram,
  sampledMatmul,
  sampledRmsNorm,
} from '../kernels/index.js';
import type { TimedCase } from './kernels.js';

/** Projections of 8B and 70B models, [outputs, inputs]. */
const projections = [
  [4096, 4096],
  [1024, 4096],
  [4096, 14336],
  [8192, 8192],
  [8192, 28672],
] as const;

/** What a prune of an 8B or 70B model spends its time on, the most important first. */
export function largeShapes({ subgroupMatrix }: Pick<DeviceFeatures, 'subgroupMatrix'>): SampledCase[] {
  const heads = { heads: 32, kvHeads: 8, headDim: 128 };
  const product = (
    m: number,
    [n, k]: readonly [number, number],
    a: 'f32' | 'f16',
    b: 'bf16' | 'f16' | 'f32',
  ) => sampledMatmul({ form: 'NT', m, n, k, a, b });
  const cases = [
    sampledGatedMatmul(2048, 14336, 4096),
    product(2048, projections[2], 'f32', 'bf16'),
    product(2048, projections[0], 'f32', 'bf16'),
    sampledAttention({ queries: 1024, keys: 1024, ...heads }),
    sampledGram(4096, 4096),
    sampledGram(4096, 4096, 4096),
    sampledMatmul({ form: 'TN', m: 4096, n: 4096, k: 2048, lower: true }),
    ...(subgroupMatrix ? [product(2048, [14336, 4096], 'f16', 'f16')] : []),
    product(2048, projections[0], 'f32', 'f16'),
    product(2048, projections[0], 'f32', 'f32'),
    sampledAttention({ queries: 8192, keys: 8192, ...heads }),
    sampledAttention({ queries: 1, keys: 8192, ...heads }),
    sampledRmsNorm(4096, 4096),
    ...[1, 16, 256].flatMap(m => projections.slice(0, 3).map(shape => product(m, shape, 'f32', 'bf16'))),
    sampledGatedMatmul(1, 14336, 4096),
    product(2048, projections[1], 'f32', 'bf16'),
    ...[1, 2048].flatMap(m => projections.slice(3).map(shape => product(m, shape, 'f32', 'bf16'))),
    sampledGatedMatmul(2048, 28672, 8192),
    sampledGram(2048, 14336),
  ];
  return cases as unknown as SampledCase[];
}

export type ShapeSize = 'small' | 'large';

export interface TimedShapes {
  readonly size: ShapeSize;
  /** A sentence: which shapes these are, and why. */
  readonly reason: string;
  readonly cases: readonly TimedCase[];
}

const smallShapes: readonly TimedCase[] = kernelCases.filter(({ bench }) => bench);

/** Whether `bench kernels` times a case with this text in "kernel case" on some device. */
export const isTimedSomewhere = (text: string): boolean =>
  [...smallShapes, ...largeShapes({ subgroupMatrix: true })].some(item => hasText(item, text));

/** Whether "kernel case" has this text. */
export const hasText = ({ kernel, name }: TimedCase, text: string): boolean =>
  `${kernel} ${name}`.includes(text);

/**
 * The cases that `bench kernels` times: small ones on a software adapter; on a GPU, which they would not fill, those of 8B
 * and 70B models, and the small ones of kernels that have no other.
 */
export function timedShapes(
  device: Pick<Device, 'info' | 'features'>,
  asked: ShapeSize | undefined,
): TimedShapes {
  const { kind, description } = device.info;
  const size = asked ?? (kind === 'software' ? 'small' : 'large');
  const why = asked
    ? 'as asked'
    : `because ${description} is ${kind === 'software' ? 'a software adapter' : 'a GPU, which small ones do not fill'}`;
  if (size === 'small') return { size, reason: `Small shapes, ${why}.`, cases: smallShapes };
  const large: readonly TimedCase[] = largeShapes(device.features);
  const kernels = new Set(large.map(({ kernel }) => kernel));
  return {
    size,
    reason: `Shapes of 8B and 70B models, small ones for kernels that have no other, ${why}.`,
    cases: [...large, ...smallShapes.filter(({ kernel }) => !kernels.has(kernel))],
  };
}
