import type { DType } from '../../engine/dtype.js';
import { ensure, RmError } from '../../engine/errors.js';
import { type BlockFormat, blockFormats } from '../../kernels/dequantize.js';
import type { Checkpoint, TensorInfo } from '../checkpoint/checkpoint.js';
import { familyOf } from './config.js';
import { type GgufFamily, huggingFaceName, ROPE_FACTORS } from './families.js';
import type { GgufFile } from './file.js';
import { corruptGguf, type GgufTensor } from './header.js';
import { GgufMetadata } from './metadata.js';
import { reorderedRows, rotaryPairRow } from './rowOrder.js';

const plainTypes: Readonly<Record<string, DType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

/** Types that are dequantised on the device. */
const blockType = (name: string): BlockFormat | undefined => blockFormats.find(format => format === name);

/** A tensor under its Hugging Face name. */
export interface NamedTensor {
  readonly tensor: GgufTensor;
  /** Rows of a head, where the rows lie in llama.cpp's order and not in transformers'. */
  readonly headRows: number | undefined;
}

/**
 * The tensors of a file by their Hugging Face names. Those that config.json speaks for are left out.
 * Throws UNSUPPORTED_FAMILY for a tensor that the family does not have: without it the model would compute another thing.
 */
export function namedTensors(file: GgufFile, family: GgufFamily): Map<string, NamedTensor> {
  const found = new Map<string, NamedTensor>();
  for (const tensor of file.tensors) {
    if (tensor.name === ROPE_FACTORS) continue;
    const name = huggingFaceName(family, tensor.name);
    if (name === undefined) {
      throw new RmError(
        'UNSUPPORTED_FAMILY',
        `${file.path}: tensor ${JSON.stringify(tensor.name)} belongs to no ${family.architecture} that is supported`,
        "Give the model's Hugging Face folder.",
      );
    }
    found.set(name, { tensor, headRows: headRows(file, family, tensor) });
  }
  return found;
}

function headRows(file: GgufFile, family: GgufFamily, { name, shape }: GgufTensor): number | undefined {
  const [, which] = /^blk\.\d+\.attn_([qk])\./.exec(name) ?? [];
  if (!family.permuted || which === undefined) return undefined;
  const metadata = new GgufMetadata(file.metadata, file.path);
  const key = (end: string) => `${family.architecture}.attention.${end}`;
  const heads = metadata.uniformCount(key('head_count')) ?? 1;
  const count = which === 'q' ? heads : (metadata.uniformCount(key('head_count_kv')) ?? heads);
  const rows = shape[0]! / count;
  if (rows % 2 === 0) return rows;
  throw corruptGguf(`${file.path}: tensor ${JSON.stringify(name)} has ${shape[0]} rows for ${count} heads`);
}

/** A GGUF file as the checkpoint of a Hugging Face model: names, shapes and order of rows are those of transformers. */
export class GgufCheckpoint implements Checkpoint {
  readonly path: string;
  readonly names: readonly string[];
  readonly totalBytes: number;
  readonly #tensors: ReadonlyMap<string, NamedTensor>;

  /** @param file is taken over. */
  constructor(readonly file: GgufFile) {
    this.path = file.path;
    this.#tensors = namedTensors(file, familyOf(file));
    this.names = [...this.#tensors.keys()];
    this.totalBytes = file.tensors.reduce((sum, { begin, end }) => sum + end - begin, 0);
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** The tensor as the file has it. */
  stored(name: string): NamedTensor {
    const found = this.#tensors.get(name);
    if (found) return found;
    throw corruptGguf(
      `${this.path}: has no tensor for ${JSON.stringify(name)}`,
      'The file is not complete: download or convert it again.',
    );
  }

  info(name: string): TensorInfo {
    const { tensor } = this.stored(name);
    const byteLength = tensor.end - tensor.begin;
    const shape = [...tensor.shape];
    const dtype = plainTypes[tensor.type.name];
    if (dtype) return { name, dtype, shape, byteLength };
    const blocks = blockType(tensor.type.name);
    // Rows are whole blocks; a vector has no rows.
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

  async readRange(name: string, byteStart: number, byteLength: number): Promise<Uint8Array> {
    const { tensor, headRows: rows } = this.stored(name);
    const size = tensor.end - tensor.begin;
    ensure(
      byteStart >= 0 && byteLength >= 0 && byteStart + byteLength <= size,
      `bytes ${byteStart} to ${byteStart + byteLength} of tensor ${JSON.stringify(name)}, which has ${size}`,
      'Ask for a range within the tensor.',
    );
    if (rows === undefined) return this.file.read(tensor.begin + byteStart, byteLength);
    // Rows change places within their head only: whole heads are read.
    const rowBytes = size / tensor.shape[0]!;
    const headBytes = rows * rowBytes;
    const start = Math.floor(byteStart / headBytes) * headBytes;
    const end = Math.ceil((byteStart + byteLength) / headBytes) * headBytes;
    const heads = await this.file.read(tensor.begin + start, end - start);
    const ordered = reorderedRows(heads, rowBytes, row => rotaryPairRow(row, rows));
    return ordered.subarray(byteStart - start, byteStart - start + byteLength);
  }

  close(): Promise<void> {
    return this.file.close();
  }
}
