import { type Device, type DType, download, RmError, Tensor } from '../engine/index.js';
import { isStack, storedName, type TensorPart, type TensorRef, type TensorStack } from './architecture.js';
import { type Checkpoint, deviceBytes } from './checkpoint/checkpoint.js';
import { readDense } from './checkpoint/denseTensor.js';
import type { HostTensor } from './hostWeights.js';

/** New values of what a reference is to, in the checkpoint's number type, on the device or in the host's memory. */
export type NewValues = Tensor | HostTensor;

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
  if ('dtype' in replacement) return bytesOf(replacement, name, dtype);
  const byteLength = deviceBytes(info);
  const rowBytes = byteLength / shape[0]!;
  if ('stack' in replacement) {
    const { stack, place, values } = replacement;
    const all = await bytesOf(values, name, dtype);
    if (stack.along === 'rows') return all.subarray(place * byteLength, (place + 1) * byteLength);
    const bytes = new Uint8Array(byteLength);
    for (let row = 0; row < shape[0]!; row++) {
      const from = (row * stack.names.length + place) * rowBytes;
      bytes.set(all.subarray(from, from + rowBytes), row * rowBytes);
    }
    return bytes;
  }
  const bytes = await readDense(device, checkpoint, name);
  for (const [{ first, count, stride, runs }, values] of replacement) {
    const rows = await bytesOf(values, name, dtype);
    for (let run = 0; run < runs; run++) {
      const from = run * count * rowBytes;
      bytes.set(rows.subarray(from, from + count * rowBytes), (first + run * stride) * rowBytes);
    }
  }
  return bytes;
}

async function bytesOf(values: NewValues, name: string, dtype: DType): Promise<Uint8Array> {
  if (values.dtype !== dtype) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `'${name}' is ${values.dtype}, the file has ${dtype}`,
      'Convert it.',
    );
  }
  return values instanceof Tensor ? await download(values) : values.bytes;
}
