import { type Device, type DType, download, RmError, Tensor } from '../../engine/index.js';
import {
  isStack,
  storedName,
  type TensorPart,
  type TensorRef,
  type TensorStack,
} from '../architecture/architecture.js';
import { type Checkpoint, deviceBytes } from '../checkpoint/checkpoint.js';
import { readDense } from '../checkpoint/denseTensor.js';
import type { SpilledTensor } from '../transformer/spilledWeights.js';

/** New values of what a reference is to, in the checkpoint's number type, on the device or on the disk. */
export type NewValues = Tensor | SpilledTensor;

/** The matrix of a stack that is `place` in the order of its names, and the values of all of them. */
interface StackedValues {
  readonly stack: TensorStack;
  readonly place: number;
  readonly values: NewValues;
}

/** New values of a stored tensor: all of it, a matrix of a stack, or some of the parts that it consists of. */
export type Replacement =
  | NewValues
  | StackedValues
  | readonly (readonly [part: TensorPart, values: NewValues])[];

/** Notes new values by the names of the stored tensors that they go into. */
export function addReplacement(
  replacements: Map<string, Replacement>,
  ref: TensorRef,
  values: NewValues,
): void {
  const name = storedName(ref);
  if (typeof ref === 'string') {
    replacements.set(name, values);
  } else if (isStack(ref)) {
    for (const [place, each] of ref.names.entries()) replacements.set(each, { stack: ref, place, values });
  } else {
    const known = replacements.get(name);
    replacements.set(name, [...(Array.isArray(known) ? known : []), [ref, values]]);
  }
}

/** A stored tensor's new bytes; rows for which there are no new values keep their old ones. */
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
  if ('stack' in replacement) {
    const { stack, place, values } = replacement;
    const read = await reader(values, name, dtype);
    if (stack.along === 'rows') return await read(place * byteLength, byteLength);
    const bytes = new Uint8Array(byteLength);
    for (let row = 0; row < shape[0]!; row++) {
      bytes.set(await read((row * stack.names.length + place) * rowBytes, rowBytes), row * rowBytes);
    }
    return bytes;
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

/** Gives bytes of new values: of those on the disk only what is asked for is in memory. */
async function reader(
  values: NewValues,
  name: string,
  dtype: DType,
): Promise<(from: number, byteLength: number) => Uint8Array | Promise<Uint8Array>> {
  if (values.dtype !== dtype) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `'${name}' is ${values.dtype}, the file has ${dtype}`,
      'Convert it.',
    );
  }
  if (!(values instanceof Tensor)) return (from, byteLength) => values.read(from, byteLength);
  const all = await download(values);
  return (from, byteLength) => all.subarray(from, from + byteLength);
}
