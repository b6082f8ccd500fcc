import { type Device, download, PIECE, Tensor, tensorFromBytes, upload } from '../../engine/index.js';
import { dequantize } from '../../kernels/index.js';
import { type Checkpoint, deviceBytes, type TensorInfo } from './checkpoint.js';

/** Uploads whole rows, as a checkpoint stores them, into `target`; dequantises blocks on the device. */
export async function uploadStored(
  { name, blocks }: Pick<TensorInfo, 'name' | 'blocks'>,
  bytes: Uint8Array,
  target: Tensor,
): Promise<void> {
  if (!blocks) return upload(target, bytes);
  const words = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
  words.set(bytes);
  using packed = await tensorFromBytes(target.device, words, [words.byteLength / 4], 'u32', name);
  dequantize(target.device.recorder, packed, blocks, target);
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
    const stored = await checkpoint.readRange(name, row * rowBytes, count * rowBytes);
    if (!info.blocks) {
      yield stored;
      continue;
    }
    using tensor = Tensor.create(device, [count, ...columns], info.dtype, name);
    await uploadStored(info, stored, tensor);
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
