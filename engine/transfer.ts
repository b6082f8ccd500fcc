import { checkArguments, settings } from './arguments.js';
import type { Device } from './device.js';
import { asU32, byteSize, type DType, decodeToF32, dtypes, elementCount } from './dtype.js';
import { ensure, RmError } from './errors.js';
import { oneOf, optional, text } from './form.js';
import { encodeValues, type HostValues } from './hostValues.js';
import type { ReadInto } from './staging.js';
import { ensureTensor, Tensor } from './tensor.js';

/** Bytes of a piece in `downloadPieces` and in copies between disk and device. */
export const PIECE = 64 << 20;

/** Most bytes that a tensor takes from the queue's own staging memory: below that, mapping a buffer takes longer. */
const FEW = 256 << 10;

/** Dawn keeps a ring of staging memory for writes up to this size and makes a new buffer for each larger one. */
const CHUNK = 4 << 20;

/** Writes bytes by the queue, which copies them at once. */
function write(tensor: Tensor, bytes: Uint8Array): void {
  const { queue } = tensor.device.gpu;
  const target = tensor.buffer.gpu;
  // Recorded work may still read or write a pooled buffer that this tensor now owns.
  tensor.device.recorder.flush();
  const whole = Math.floor(bytes.byteLength / 4) * 4;
  for (let start = 0; start < whole; start += CHUNK) {
    queue.writeBuffer(target, tensor.byteOffset + start, bytes, start, Math.min(CHUNK, whole - start));
  }
  if (bytes.byteLength === whole) return;
  const last = new Uint8Array(4);
  last.set(bytes.subarray(whole));
  queue.writeBuffer(target, tensor.byteOffset + whole, last);
}

/** Writes little-endian `bytes` into a tensor of the same byte length. */
export async function upload(tensor: Tensor, bytes: Uint8Array): Promise<void> {
  ensureTensor(tensor, 'the target of `upload`');
  const { device } = tensor;
  device.check();
  ensure(
    bytes instanceof Uint8Array,
    `'${tensor.label}' got ${typeof bytes} instead of bytes`,
    'Pass a Uint8Array, or make the tensor with `tensorFrom`.',
  );
  ensure(
    tensor.wholeWords,
    `a view of '${tensor.label}', [${tensor.shape}] ${tensor.dtype}, begins or ends within a 32-bit word`,
    'Upload an even number of 16-bit elements.',
  );
  ensure(
    bytes.byteLength === tensor.byteLength,
    `'${tensor.label}' [${tensor.shape}] ${tensor.dtype} takes ${tensor.byteLength} bytes, got ${bytes.byteLength}`,
    'Pass data of the same shape and dtype.',
  );
  if (bytes.byteLength <= FEW) write(tensor, bytes);
  else await uploadFrom(tensor, (target, at) => target.set(bytes.subarray(at, at + target.byteLength)));
}

/**
 * Fills the first `byteLength` bytes of a tensor (default: all) with what `read` supplies, in pieces; `read` writes
 * straight into memory that the device copies from.
 *
 * @throws RmError for any GPU failure so far; whatever `read` throws.
 */
export async function uploadFrom(
  tensor: Tensor,
  read: ReadInto,
  byteLength: number = tensor?.byteLength,
): Promise<void> {
  ensureTensor(tensor, 'the target of `uploadFrom`');
  ensure(
    typeof read === 'function' && byteLength >= 0 && byteLength <= tensor.byteLength,
    `'${tensor.label}' takes ${tensor.byteLength} bytes from a function`,
    'Pass `read`, and a `byteLength` up to that.',
  );
  if (byteLength > FEW) return tensor.device.staging.fill(tensor, read, byteLength);
  tensor.device.check();
  const bytes = new Uint8Array(byteLength);
  await read(bytes, 0);
  write(tensor, bytes);
}

/** Settings of `tensorFrom`. */
export interface TensorOptions {
  /** Default: u32 for a Uint32Array, f16 for a Float16Array, f32 for other floats and lists of numbers. */
  readonly dtype?: DType;
  readonly label?: string;
}

const tensorSettings = settings<TensorOptions>({
  dtype: optional(oneOf(...dtypes)),
  label: optional(text),
});

/**
 * Creates a tensor from host values, at most 64 MiB, rounded to nearest even where the dtype has fewer digits. Integers
 * other than a Uint32Array need a `dtype`.
 *
 * @param options a label, or `{ dtype, label }`.
 * @throws RmError INVALID_ARGUMENT when there are more bytes, the shape has another size, or the dtype cannot hold them.
 */
export function tensorFrom(
  device: Device,
  values: HostValues,
  shape: readonly number[] = [values?.length],
  options: string | TensorOptions = {},
): Tensor {
  const given = typeof options === 'string' ? { label: options } : options;
  checkArguments('tensorFrom', { options: given }, { options: tensorSettings });
  const { dtype, label = 'data' } = given;
  const encoded = encodeValues(values, dtype, label);
  ensure(
    encoded.bytes.byteLength <= PIECE,
    `'${label}' has ${encoded.bytes.byteLength} bytes`,
    'Use tensorFromBytes for data over 64 MiB.',
  );
  ensure(
    elementCount(shape) === values.length,
    `'${label}' has ${values.length} values for shape [${shape}]`,
    'Pass as many values as the shape has.',
  );
  return smallTensor(device, encoded.bytes, shape, encoded.dtype, label);
}

/** Creates a tensor from little-endian bytes, at once: few bytes, since they pile up as staging memory. */
export function smallTensor(
  device: Device,
  bytes: Uint8Array,
  shape: readonly number[],
  dtype: DType,
  label = 'data',
): Tensor {
  const tensor = Tensor.create(device, shape, dtype, label);
  write(tensor, bytes);
  return tensor;
}

/** Creates a tensor of any size and dtype from little-endian bytes. */
export async function tensorFromBytes(
  device: Device,
  bytes: Uint8Array,
  shape: readonly number[],
  dtype: DType,
  label = 'data',
): Promise<Tensor> {
  const tensor = Tensor.create(device, shape, dtype, label);
  try {
    await upload(tensor, bytes);
  } catch (error) {
    tensor.dispose();
    throw error;
  }
  return tensor;
}

/** Reads a tensor's bytes, after all recorded work. @throws RmError for any GPU failure so far. */
export async function download(tensor: Tensor): Promise<Uint8Array> {
  return (await downloadTogether([tensor]))[0]!;
}

/** Reads the bytes of tensors of one device, after all recorded work, with one wait. @throws RmError as `download`. */
export async function downloadTogether(tensors: readonly Tensor[]): Promise<Uint8Array[]> {
  for (const tensor of tensors) ensureTensor(tensor, 'what should be read back');
  if (tensors.length === 0) return [];
  tensors[0]!.device.check();
  if (tensors.every(({ byteLength }) => byteLength === 0)) return tensors.map(() => new Uint8Array(0));
  const all: Uint8Array[] = [];
  await read(tensors, bytes => all.push(bytes.slice()));
  return all;
}

/** Hands the bytes of tensors to `take`, one after the other; they are gone when it returns. @throws RmError as `download`. */
async function read(tensors: readonly Tensor[], take: (bytes: Uint8Array) => void): Promise<void> {
  const { device, label } = tensors[0]!;
  try {
    await readAllBack(tensors, take);
    await device.settle();
  } catch (cause) {
    if (cause instanceof RmError) throw cause;
    await device.explain(cause, `'${label}' could not be read back`);
  }
}

/** Submits all recorded work, then reads a tensor's bytes, whether or not the device has failed. Rejects as Dawn does. */
export async function readBack(tensor: Tensor): Promise<Uint8Array> {
  let all = new Uint8Array(0);
  await readAllBack([tensor], bytes => {
    all = bytes.slice();
  });
  return all;
}

/** The same for several tensors of one device together, with one wait; the bytes are gone when `take` returns. */
async function readAllBack(tensors: readonly Tensor[], take: (bytes: Uint8Array) => void): Promise<void> {
  const { device, label } = tensors[0]!;
  const places: { start: number; byteLength: number }[] = [];
  let size = 0;
  // The tensors may be disposed as soon as the copies are submitted.
  for (const { byteLength } of tensors) {
    places.push({ start: size, byteLength });
    size += Math.ceil(byteLength / 4) * 4;
  }
  const staging = device.gpu.createBuffer({
    label: `download of ${label}`,
    size,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
  });
  try {
    for (const [i, tensor] of tensors.entries()) device.recorder.copyOut(tensor, staging, places[i]!.start);
    device.recorder.flush();
    device.profiler?.count('waits');
    await device.wait(staging.mapAsync(GPUMapMode.READ));
    const mapped = staging.getMappedRange();
    for (const { start, byteLength } of places) take(new Uint8Array(mapped, start, byteLength));
  } finally {
    staging.destroy();
  }
}

/** Reads a tensor's bytes in pieces of 64 MiB. */
export async function* downloadPieces(tensor: Tensor): AsyncIterable<Uint8Array> {
  ensureTensor(tensor, 'what should be read back');
  const elements = tensor.reshape([tensor.size]);
  const most = PIECE / byteSize(tensor.dtype);
  for (let first = 0; first < tensor.size; first += most) {
    yield await download(elements.rows(first, Math.min(most, tensor.size - first)));
  }
}

/** Fills a tensor from pieces, as `downloadPieces` yields them; all but the last must be whole 32-bit words. */
export async function uploadPieces(tensor: Tensor, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  const elements = tensor.reshape([tensor.size]);
  const size = byteSize(tensor.dtype);
  let first = 0;
  for await (const piece of pieces) {
    await upload(elements.rows(first, piece.byteLength / size), piece);
    first += piece.byteLength / size;
  }
}

/** Reads a float tensor, widened to f32. @throws RmError for any GPU failure so far. */
export async function downloadF32(tensor: Tensor): Promise<Float32Array> {
  ensureTensor(tensor, 'what should be read back');
  ensure(tensor.dtype !== 'u32', `'${tensor.label}' is u32`, 'Use downloadU32.');
  return decodeToF32(await download(tensor), tensor.dtype);
}

/** Reads a u32 tensor. @throws RmError INVALID_ARGUMENT for other dtypes, or for any GPU failure so far. */
export async function downloadU32(tensor: Tensor): Promise<Uint32Array> {
  ensureTensor(tensor, 'what should be read back');
  ensure(tensor.dtype === 'u32', `'${tensor.label}' is ${tensor.dtype}`, 'Use downloadF32 for floats.');
  return asU32(await download(tensor));
}

/**
 * Reads a tensor into an array of the caller's, which loops can use again: floats widened to f32 into a Float32Array or
 * Float64Array, u32 into a Uint32Array, or the bytes as they are into a Uint8Array.
 *
 * @throws RmError INVALID_ARGUMENT where the array is of another kind or length, or for any GPU failure so far.
 */
export async function downloadInto(
  tensor: Tensor,
  target: Float32Array | Float64Array | Uint32Array | Uint8Array,
): Promise<void> {
  ensureTensor(tensor, 'what should be read back');
  const { device, dtype, label, shape, size, byteLength } = tensor;
  const isBytes = target instanceof Uint8Array;
  const fits =
    dtype === 'u32'
      ? target instanceof Uint32Array
      : target instanceof Float32Array || target instanceof Float64Array;
  ensure(
    isBytes || fits,
    `'${label}' is ${dtype}, which \`target\` cannot take`,
    `Pass a ${dtype === 'u32' ? 'Uint32Array' : 'Float32Array'}, or a Uint8Array for the bytes.`,
  );
  ensure(
    target.length === (isBytes ? byteLength : size),
    `'${label}' [${shape}] ${dtype} is read into ${target.length} ${isBytes ? 'bytes' : 'elements'}`,
    `Pass an array of ${isBytes ? byteLength : size}.`,
  );
  device.check();
  if (size === 0) return;
  await read([tensor], bytes =>
    target.set(isBytes ? bytes : dtype === 'u32' ? asU32(bytes) : decodeToF32(bytes, dtype)),
  );
}
