import { deviceBytes, type TensorInfo } from '../checkpoint/checkpoint.js';
import { densePieces, readDense } from '../checkpoint/denseTensor.js';
import { storedCheckpoint } from '../checkpoint/inDtype.js';
import type { GgufCheckpoint } from '../gguf/checkpoint.js';
import { encodeAs, shifted, type WrittenType } from '../gguf/encode.js';
import type { GgufFamily } from '../gguf/family.js';
import type { GgufTensor } from '../gguf/header.js';
import { gainOffset, rowOrderKind } from '../gguf/names.js';
import { inGgufOrder, rowOrder } from '../gguf/rowOrder.js';
import {
  type GgufTensorSource,
  ggufTensorBytes,
  type WrittenMetadata,
  writeGgufFile,
} from '../gguf/writer.js';
import { type PlannedTensor, planGguf } from './ggufPlan.js';
import type { ModelToWrite, WriteModelOptions } from './modelToWrite.js';
import { replacedBytes } from './replacement.js';

/** general.file_type: the type of most of the numbers. Source: llama.h (enum llama_ftype). */
const fileTypes: Readonly<Record<WrittenType, number>> = { F32: 0, F16: 1, Q8_0: 7, BF16: 32 };

const PIECE = 16 << 20;

/** Bytes of a row on the device. */
const rowBytesOf = (info: TensorInfo): number => deviceBytes(info) / info.shape[0]!;

/** Reads a checkpoint tensor, or its replacement, as numbers in llama.cpp's row order. */
async function* numbersOf(
  model: ModelToWrite,
  family: GgufFamily,
  name: string,
  huggingFace: string,
): AsyncGenerator<Uint8Array> {
  const { checkpoint, device, arch, replacements } = model;
  const { shape } = checkpoint.info(huggingFace);
  const kind = rowOrderKind(family, name);
  const order = kind && rowOrder(kind, shape[0]!, arch);
  const ordered = (bytes: Uint8Array) =>
    order ? inGgufOrder(bytes, rowBytesOf(checkpoint.info(huggingFace)), order) : bytes;
  const replacement = replacements.get(huggingFace);
  if (replacement) {
    yield ordered(await replacedBytes(replacement, model, huggingFace));
  } else if (order && !order.paired) {
    yield ordered(await readDense(device, checkpoint, huggingFace));
  } else {
    for await (const piece of densePieces(device, checkpoint, huggingFace, order?.headRows)) {
      yield ordered(piece);
    }
  }
}

/** Encodes several checkpoint tensors, one after the other, in a GGUF type. */
async function* encodedBytes(
  model: ModelToWrite,
  family: GgufFamily,
  name: string,
  { encode, type }: { encode: readonly string[]; type: WrittenType },
): AsyncGenerator<Uint8Array> {
  const offset = gainOffset(family, name);
  for (const huggingFace of encode) {
    const info = model.checkpoint.info(huggingFace);
    const rowBytes = rowBytesOf(info);
    for await (const piece of numbersOf(model, family, name, huggingFace)) {
      // Encode in slices, because encoding takes several times their memory.
      const slice = Math.max(1, Math.floor(PIECE / rowBytes)) * rowBytes;
      for (let at = 0; at < piece.byteLength; at += slice) {
        const part = piece.slice(at, at + slice);
        yield offset === 0 ? encodeAs(part, info.dtype, type) : shifted(part, info.dtype, offset, type);
      }
    }
  }
}

async function* copied({ file }: GgufCheckpoint, { begin, end }: GgufTensor): AsyncGenerator<Uint8Array> {
  for (let at = begin; at < end; at += PIECE) yield await file.read(at, Math.min(PIECE, end - at));
}

/** Adds the bytes to a planned tensor. */
function withBytes(
  model: ModelToWrite,
  family: GgufFamily,
  { origin, ...tensor }: PlannedTensor,
): GgufTensorSource {
  if ('bytes' in origin) return { ...tensor, bytes: origin.bytes };
  if ('copy' in origin) {
    const stored = storedCheckpoint(model.checkpoint) as GgufCheckpoint;
    return { ...tensor, bytes: () => copied(stored, origin.copy) };
  }
  return { ...tensor, bytes: () => encodedBytes(model, family, tensor.name, origin) };
}

/**
 * Writes a model as a GGUF file. From a GGUF file, untouched tensors are copied byte for byte unless `type` sets another
 * type, and tensors with new values are stored as on the device: f16 if they were blocks. From a folder, matrices keep
 * their number type, vectors become F32, and metadata are made from config.json and the tokenizer.
 *
 * @throws RmError OUTPUT_FAILED; UNSUPPORTED_FAMILY, CONFIG_INVALID for settings that GGUF cannot express.
 */
export async function writeGgufModel(
  model: ModelToWrite,
  to: string,
  options: WriteModelOptions,
): Promise<void> {
  const { family, metadata, tensors: planned } = await planGguf(model, options);
  const tensors = planned.map(tensor => withBytes(model, family, tensor));
  const total = tensors.reduce((sum, tensor) => sum + ggufTensorBytes(tensor), 0);
  let done = 0;
  await writeGgufFile(to, withFileType(metadata, tensors), tensors, tensor => {
    done += ggufTensorBytes(tensor);
    options.onProgress?.({ phase: 'write', done, total, unit: 'bytes' });
  });
}

/** Sets general.file_type to the type of most bytes; keeps the source's value if that type is not written here. */
function withFileType(metadata: WrittenMetadata, tensors: readonly GgufTensorSource[]): WrittenMetadata {
  const bytes = new Map<string, number>();
  for (const tensor of tensors) {
    bytes.set(tensor.type.name, (bytes.get(tensor.type.name) ?? 0) + ggufTensorBytes(tensor));
  }
  const [most] = [...bytes].sort((a, b) => b[1] - a[1])[0] ?? [];
  const value = fileTypes[most as WrittenType];
  if (value === undefined) return metadata;
  return new Map([...metadata, ['general.file_type', { type: 'u32', value }]]);
}
