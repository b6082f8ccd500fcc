import { asU16, asU32 } from '../engine/dtype.js';
import {
  type Device,
  type DType,
  download,
  type Scope,
  type Tensor,
  tensorFromBytes,
} from '../engine/index.js';
import { convert } from '../kernels/convert.js';
import type { LayerWeights } from './weights.js';

/** A tensor that waits in the host's memory. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** Row-major, little-endian. */
  readonly bytes: Uint8Array;
}

/** Weights of a layer that wait in the host's memory, as a checkpoint stores them. */
export type HostWeights = { readonly [K in keyof LayerWeights]?: HostTensor };

/** How many of its values are NaN or infinite: those whose exponent has all bits set. */
export function nonFiniteIn({ bytes, dtype }: HostTensor): number {
  if (dtype === 'u32') return 0;
  const exponent = { f32: 0x7f800000, f16: 0x7c00, bf16: 0x7f80 }[dtype];
  const words = dtype === 'f32' ? asU32(bytes) : asU16(bytes);
  let count = 0;
  for (const word of words) if ((word & exponent) === exponent) count++;
  return count;
}

/** A copy in the host's memory. */
export const toHost = async (tensor: Tensor): Promise<HostTensor> => ({
  shape: tensor.shape,
  dtype: tensor.dtype,
  bytes: await download(tensor),
});

/** Brings weights to the device as models hold them: biases in f32, all else as stored; in `scope`. */
export async function toDevice(
  device: Device,
  weights: HostWeights,
  scope: Scope,
): Promise<Partial<LayerWeights>> {
  const found: Record<string, Tensor> = {};
  for (const [key, { bytes, shape, dtype }] of Object.entries(weights) as [string, HostTensor][]) {
    const stored = scope.own(await tensorFromBytes(device, bytes, shape, dtype, key));
    found[key] = stored;
    if (!key.endsWith('Bias') || dtype === 'f32') continue;
    found[key] = scope.tensor(shape, 'f32', key);
    convert(device.recorder, stored, found[key]);
  }
  return found as Partial<LayerWeights>;
}
