import { type Device, download, PIECE, type ReadInto, Tensor, uploadFrom } from '../../engine/index.js';
import { dequantize, dequantizeRows } from '../../kernels/index.js';
import { type Checkpoint, deviceBytes, type TensorInfo } from './checkpoint.js';

/** Alignment of bindings. */
const ALIGNMENT = 256;

/** Steps of rows of so many bytes that begin where a binding can. */
function alignedRows(rowBytes: number): number {
  let rows = 1;
  while ((rows * rowBytes) % ALIGNMENT !== 0) rows *= 2;
  return rows;
}

/**
 * Fills `target` with rows as a checkpoint stores them, which `read` supplies; dequantises blocks on the device.
 *
 * @param rowBytes stored bytes of a row.
 */
export async function uploadStored(
  { name, blocks }: Pick<TensorInfo, 'name' | 'blocks'>,
  rowBytes: number,
  read: ReadInto,
  target: Tensor,
): Promise<void> {
  if (!blocks) return uploadFrom(target, read);
  const { device, shape, byteLength } = target;
  const rows = shape[0]!;
  const least = alignedRows(byteLength / rows);
  const widest = Math.max(byteLength / rows, rowBytes);
  const step = least * Math.max(1, Math.floor(PIECE / widest / least));
  for (let row = 0; row < rows; row += step) {
    const count = Math.min(step, rows - row);
    using packed = Tensor.create(device, [Math.ceil((count * rowBytes) / 4)], 'u32', name);
    await uploadFrom(packed, (into, at) => read(into, row * rowBytes + at), count * rowBytes);
    const out = target.rows(row, count);
    if (typeof blocks === 'string') dequantize(device.recorder, packed, blocks, out);
    else dequantizeRows(device.recorder, packed, blocks, out);
  }
}

/**
 * Reads a tensor as numbers of its `dtype`, little-endian, in pieces of whole rows, so that host memory stays small. Every
 * piece but the last has a multiple of `rowStep` rows. Blocks are dequantised on the device.
 */
export async function* densePieces(
  device: Device,
  checkpoint: Checkpoint,
  name: string,
  rowStep = 1,
): AsyncGenerator<Uint8Array> {
  const info = checkpoint.info(name);
  const [rows = 1, ...columns] = info.shape;
  const step = rowStep * Math.max(1, Math.floor(PIECE / (deviceBytes(info) / rows) / rowStep));
  for (let row = 0; row < rows; row += step) {
    const count = Math.min(step, rows - row);
    const rowBytes = info.byteLength / rows;
    if (!info.blocks) {
      yield await checkpoint.readRange(name, row * rowBytes, count * rowBytes);
      continue;
    }
    const read: ReadInto = (into, at) => checkpoint.readInto(name, row * rowBytes + at, into);
    using tensor = Tensor.create(device, [count, ...columns], info.dtype, name);
    await uploadStored(info, rowBytes, read, tensor);
    yield await download(tensor);
  }
}

/** Reads a tensor's bytes as stored, in pieces. */
export async function* storedPieces(
  checkpoint: Checkpoint,
  name: string,
  byteLength: number,
): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < byteLength; at += PIECE) {
    yield await checkpoint.readRange(name, at, Math.min(PIECE, byteLength - at));
  }
}

/** Reads a whole tensor as numbers of its `dtype`, little-endian. */
export async function readDense(device: Device, checkpoint: Checkpoint, name: string): Promise<Uint8Array> {
  if (!checkpoint.info(name).blocks) return checkpoint.read(name);
  const pieces: Uint8Array[] = [];
  for await (const piece of densePieces(device, checkpoint, name)) pieces.push(piece);
  return Buffer.concat(pieces);
}
