import {
  asBytes,
  checkArguments,
  type Device,
  downloadF32,
  type Recorder,
  Scope,
  Tensor,
  tensorFromBytes,
  text,
} from '../../engine/index.js';
import { aDevice, anOwner, aPair, checkOperands, someNumbers } from './checks.js';

export { exactArithmetic, pairDivision, RUNTIME_ZERO } from '../../engine/index.js';

/** A tensor with about 48 bits of mantissa: the unevaluated sum hi + lo of two f32 tensors of one shape. */
export interface DoubleSingle {
  hi: Tensor;
  lo: Tensor;
}

/** Creates an uninitialised double-single tensor, which belongs to the scope or, with a device, to the caller. */
export function createDoubleSingle(
  owner: Device | Scope,
  shape: readonly number[],
  label = 'double-single',
): DoubleSingle {
  checkArguments('createDoubleSingle', { owner, label }, { owner: anOwner, label: text });
  if (owner instanceof Scope) {
    const create = (part: string) => owner.tensor(shape, 'f32', `${label} ${part}`);
    return { hi: create('hi'), lo: create('lo') };
  }
  const hi = Tensor.create(owner, shape, 'f32', `${label} hi`);
  try {
    return { hi, lo: Tensor.create(owner, shape, 'f32', `${label} lo`) };
  } catch (error) {
    hi.dispose();
    throw error;
  }
}

/** Zeroes both parts. */
export function clearDoubleSingle(rec: Recorder, pair: DoubleSingle): void {
  checkOperands('clearDoubleSingle', rec, {});
  checkArguments('clearDoubleSingle', { pair }, { pair: aPair });
  rec.clear(pair.hi);
  rec.clear(pair.lo);
}

/** Disposes both parts. */
export function disposeDoubleSingle(pair: DoubleSingle): void {
  checkArguments('disposeDoubleSingle', { pair }, { pair: aPair });
  pair.hi.dispose();
  pair.lo.dispose();
}

/** Reads hi + lo as f64, exactly. */
export async function downloadF64(pair: DoubleSingle): Promise<Float64Array> {
  checkArguments('downloadF64', { pair }, { pair: aPair });
  const { hi, lo } = pair;
  const high = await downloadF32(hi);
  const low = await downloadF32(lo);
  return Float64Array.from(high, (value, i) => value + low[i]!);
}

/** Uploads f64 values, rounded to double-single (48 bits). The caller owns the tensors. */
export async function uploadF64(
  device: Device,
  values: ArrayLike<number>,
  shape: readonly number[],
  label = 'double-single',
): Promise<DoubleSingle> {
  const given = { device, values, label };
  checkArguments('uploadF64', given, { device: aDevice, values: someNumbers, label: text });
  const high = Float32Array.from(values);
  const low = Float32Array.from(high, (value, i) => values[i]! - value);
  const hi = await tensorFromBytes(device, asBytes(high), shape, 'f32', `${label} hi`);
  try {
    return { hi, lo: await tensorFromBytes(device, asBytes(low), shape, 'f32', `${label} lo`) };
  } catch (error) {
    hi.dispose();
    throw error;
  }
}
