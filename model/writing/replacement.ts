import { type Device, type DType, download, RmError, Tensor } from '../../engine/index.js';
import { isStack, storedName, type TensorPart, type TensorRef } from '../architecture/architecture.js';
import { type Checkpoint, deviceBytes } from '../checkpoint/checkpoint.js';
import { readDense } from '../checkpoint/denseTensor.js';
import type { SpilledTensor } from '../transformer/spilledWeights.js';

/** New values of a referenced tensor, in the checkpoint's number type, on the device or on disk. */
export type NewValues = Tensor | SpilledTensor;

/** The values of a whole stack, and the index of one of its matrices. */
interface StackedValues {
  readonly place: number;
  readonly values: NewValues;
}

/** New values of a stored tensor: the whole tensor, one matrix of a stack, or some parts of a fused tensor. */
export type Replacement =
  | NewValues
  | StackedValues
  | readonly (readonly [part: TensorPart, values: NewValues])[];

/** Records new values under the names of the stored tensors that they change. */
export function addReplacement(
  replacements: Map<string, Replacement>,
  ref: TensorRef,
  values: NewValues,
): void {
  const name = storedName(ref);
  if (typeof ref === 'string') {
    replacements.set(name, values);
  } else if (isStack(ref)) {
    for (const [place, each] of ref.names.entries()) replacements.set(each, { place, values });
  } else {
    const earlier = replacements.get(name);
    replacements.set(name, [...(Array.isArray(earlier) ? earlier : []), [ref, values]]);
  }
}

/** Computes a stored tensor's new bytes; rows without new values keep the old ones. */
export async function replacedBytes(
  replacement: Replacement,
  { checkpoint, device }: { readonly checkpoint: Checkpoint; readonly device: Device },
  name: string,
): Promise<Uint8Array> {
  const info = checkpoint.info(name);
  const { dtype, shape } = info;
  if ('dtype' in replacement) return (await reader(replacement, name, dtype))(0, deviceBytes(info));
  const byteLength = deviceBytes(info);
  const rowBytes = byteLength / shape[0]!;
  if ('place' in replacement) {
    const { place, values } = replacement;
    return await (await reader(values, name, dtype))(place * byteLength, byteLength);
  }
  const bytes = await readDense(device, checkpoint, name);
  for (const [{ first, count, stride, runs }, values] of replacement) {
    const read = await reader(values, name, dtype);
    const rows = await read(0, runs * count * rowBytes);
    for (let run = 0; run < runs; run++) {
      const from = run * count * rowBytes;
      bytes.set(rows.subarray(from, from + count * rowBytes), (first + run * stride) * rowBytes);
    }
  }
  return bytes;
}

/** Returns a function that reads ranges of new values; values on disk are read on demand. */
async function reader(
  values: NewValues,
  name: string,
  dtype: DType,
): Promise<(from: number, byteLength: number) => Uint8Array | Promise<Uint8Array>> {
  if (values.dtype !== dtype) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `the new values of '${name}' are ${values.dtype}, but the file stores ${dtype}`,
      `Convert them to ${dtype}.`,
    );
  }
  if (!(values instanceof Tensor)) return (from, byteLength) => values.read(from, byteLength);
  const all = await download(values);
  return (from, byteLength) => all.subarray(from, from + byteLength);
}
