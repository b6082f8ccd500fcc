import { type DType, decodeToF32, elementCount, encodeFromF32, RmError } from '../../engine/index.js';
import { type BlockFormat, blockFormats } from '../../kernels/index.js';
import { type Checkpoint, requireRange, type TensorInfo } from '../checkpoint/checkpoint.js';
import { filled } from '../checkpoint/fileReads.js';
import { familyOf, sizesOf } from './config.js';
import type { GgufFamily } from './family.js';
import { holdsRopeFactors } from './familyParts.js';
import type { GgufFile } from './file.js';
import { corruptGguf, type GgufTensor } from './header.js';
import { gainOffset, huggingFaceNames, isConvolution, rowOrderKind } from './names.js';
import { headRuns, type RowOrder, reorderedRows, rotaryPairRow, rowOrder } from './rowOrder.js';

const plainTypes: Readonly<Record<string, DType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

/** Returns the block format of a type that is dequantised on the device. */
const blockType = (name: string): BlockFormat | undefined => blockFormats.find(format => format === name);

/** A tensor under its Hugging Face name. */
interface NamedTensor {
  readonly tensor: GgufTensor;
  /** Set if rows have llama.cpp's order instead of transformers'. */
  readonly order: RowOrder | undefined;
  /** Index of the expert, if the stored tensor holds the matrices of all experts. */
  readonly expert: number | undefined;
  /** Added to every number in the file; subtract it on reading. */
  readonly offset: number;
}

/**
 * Lists a file's tensors by their Hugging Face names, without those that config.json expresses.
 *
 * @throws RmError UNSUPPORTED_FAMILY for a tensor that the family lacks: ignoring it would change what the model computes.
 */
function namedTensors(file: GgufFile, family: GgufFamily): Map<string, NamedTensor> {
  const byName = new Map<string, NamedTensor>();
  for (const tensor of file.tensors) {
    if (holdsRopeFactors(tensor.name)) continue;
    const names = huggingFaceNames(family, tensor.name, tensor.shape);
    if (names.length === 0) {
      throw new RmError(
        'UNSUPPORTED_FAMILY',
        `${file.path}: tensor ${JSON.stringify(tensor.name)} is not supported in ${family.architecture} models`,
        "Give the model's Hugging Face folder.",
      );
    }
    const order = orderOf(file, family, tensor);
    for (const [i, name] of names.entries()) {
      const expert = tensor.shape.length === 3 ? i : undefined;
      byName.set(name, { tensor, order, expert, offset: gainOffset(family, tensor.name) });
    }
  }
  return byName;
}

/** The shape in a checkpoint of Hugging Face: that of one expert, or of a convolution of each channel by itself. */
function shapeOf({ name, shape }: GgufTensor, expert: number | undefined): number[] {
  if (isConvolution(name)) return [shape[0]!, 1, ...shape.slice(1)];
  return shape.slice(expert === undefined ? 0 : 1);
}

function orderOf(file: GgufFile, family: GgufFamily, { name, shape }: GgufTensor): RowOrder | undefined {
  const kind = rowOrderKind(family, name);
  if (!kind) return undefined;
  const order = rowOrder(kind, shape[0]!, sizesOf(file, family));
  if (order) return order;
  throw corruptGguf(
    `${file.path}: tensor ${JSON.stringify(name)} has ${shape[0]} rows, not a whole number of heads`,
  );
}

/** Presents a GGUF file as a Hugging Face checkpoint, with transformers' names, shapes and row order. */
export class GgufCheckpoint implements Checkpoint {
  readonly path: string;
  readonly names: readonly string[];
  readonly totalBytes: number;
  readonly #tensors: ReadonlyMap<string, NamedTensor>;

  /** @param file closed by `close`. */
  constructor(readonly file: GgufFile) {
    this.path = file.path;
    this.#tensors = namedTensors(file, familyOf(file));
    this.names = [...this.#tensors.keys()];
    this.totalBytes = file.tensors.reduce((sum, { begin, end }) => sum + end - begin, 0);
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** Returns a tensor as the file stores it. */
  stored(name: string): NamedTensor {
    const entry = this.#tensors.get(name);
    if (entry) return entry;
    throw corruptGguf(
      `${this.path}: has no tensor for ${JSON.stringify(name)}`,
      'The file is incomplete: download or convert it again.',
    );
  }

  opaque(): undefined {
    return undefined;
  }

  info(name: string): TensorInfo {
    const { tensor, expert, offset } = this.stored(name);
    const shape = shapeOf(tensor, expert);
    const byteLength = (tensor.end - tensor.begin) / (expert === undefined ? 1 : tensor.shape[0]!);
    const dtype = plainTypes[tensor.type.name];
    // Without the offset, 16-bit numbers need more bits.
    if (dtype && offset !== 0) return { name, dtype: 'f32', shape, byteLength: 4 * elementCount(shape) };
    if (dtype) return { name, dtype, shape, byteLength };
    const blocks = blockType(tensor.type.name);
    // Only matrices have rows of whole blocks.
    if (blocks && shape.length > 1) return { name, dtype: 'f16', shape, byteLength, blocks };
    throw new RmError(
      'UNSUPPORTED_DTYPE',
      `${this.path}: tensor ${JSON.stringify(tensor.name)} [${shape}] is stored as ${tensor.type.name}`,
      `Quantise the model to one of ${[...Object.keys(plainTypes), ...blockFormats].join(', ')} (llama-quantize).`,
    );
  }

  read(name: string): Promise<Uint8Array> {
    return this.readRange(name, 0, this.info(name).byteLength);
  }

  readRange(name: string, byteStart: number, byteLength: number): Promise<Uint8Array> {
    return filled(byteLength, target => this.readInto(name, byteStart, target));
  }

  async readInto(name: string, byteStart: number, target: Uint8Array): Promise<void> {
    const { tensor, order, expert = 0, offset } = this.stored(name);
    const { byteLength: size, dtype } = this.info(name);
    const { byteLength } = target;
    requireRange(name, size, byteStart, byteLength);
    const begin = tensor.begin + expert * size;
    if (offset !== 0) {
      const stored = plainTypes[tensor.type.name]!;
      const values = decodeToF32(await this.file.read(tensor.begin, tensor.end - tensor.begin), stored);
      const shifted = encodeFromF32(
        values.map(value => value - offset),
        dtype,
      );
      target.set(shifted.subarray(byteStart, byteStart + byteLength));
      return;
    }
    if (!order) return this.file.readInto(begin + byteStart, target);
    const rowBytes = size / tensor.shape[0]!;
    const headBytes = order.headRows * rowBytes;
    const first = Math.floor(byteStart / headBytes);
    const end = Math.ceil((byteStart + byteLength) / headBytes);
    /** Where the next heads begin in `target`; the first may begin before it, the last may end after it. */
    let to = first * headBytes - byteStart;
    for (const { place, heads } of headRuns(order, first, end - first)) {
      const bytes = await this.file.read(begin + place * headBytes, heads * headBytes);
      const ordered = order.paired
        ? reorderedRows(bytes, rowBytes, row => rotaryPairRow(row, order.headRows))
        : bytes;
      target.set(ordered.subarray(Math.max(0, -to), byteLength - to), Math.max(0, to));
      to += heads * headBytes;
    }
  }

  close(): Promise<void> {
    return this.file.close();
  }
}
