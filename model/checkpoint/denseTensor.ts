import { type Device, download, PIECE, Tensor, tensorFromBytes, upload } from '../../engine/index.js';
import { dequantize } from '../../kernels/index.js';
import { type Checkpoint, deviceBytes, type TensorInfo } from './checkpoint.js';

/** Puts whole rows, as a checkpoint stores them, into `target`: blocks are dequantised on the device. */
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
 * A tensor as numbers of its `dtype`, little-endian, in pieces of whole rows, a multiple of `rowStep` of them (but the
 * last): host memory stays small. Blocks go through the device.
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

/** All of a tensor as numbers of its `dtype`. */
export async function readDense(device: Device, checkpoint: Checkpoint, name: string): Promise<Uint8Array> {
  if (!checkpoint.info(name).blocks) return checkpoint.read(name);
  const pieces: Uint8Array[] = [];
  for await (const piece of densePieces(device, checkpoint, name)) pieces.push(piece);
  return Buffer.concat(pieces);
}
