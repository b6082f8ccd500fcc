import { asU32, decodeToF32, elementCount, RmError } from '../../engine/index.js';
import type { Checkpoint } from '../checkpoint/checkpoint.js';

/** A tensor of a checkpoint as it is stored, of any number type. */
export interface StoredPart {
  readonly name: string;
  /** As the safetensors format names it: I32, F8_E4M3 ... */
  readonly storage: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/** The parts of compressed weights in a checkpoint, with typed errors that name them. */
export class StoredParts {
  constructor(readonly checkpoint: Checkpoint) {}

  find(name: string): StoredPart | undefined {
    if (!this.checkpoint.has(name)) return undefined;
    const opaque = this.checkpoint.opaque(name);
    if (opaque) return { name, ...opaque };
    const { dtype, shape, byteLength } = this.checkpoint.info(name);
    return { name, storage: dtype.toUpperCase(), shape, byteLength };
  }

  /** @throws RmError CHECKPOINT_CORRUPT: `part` of the weights of `module` is missing. */
  require(module: string, part: string): StoredPart {
    const found = this.find(`${module}.${part}`);
    if (found) return found;
    throw this.damaged(`${module}.${part}`, 'is missing, without which its weights cannot be read');
  }

  damaged(name: string, problem: string): RmError {
    return new RmError(
      'CHECKPOINT_CORRUPT',
      `${this.checkpoint.path}: tensor ${JSON.stringify(name)} ${problem}`,
      'The weights and "quantization_config" in config.json do not match, or a file is damaged: download the model again.',
    );
  }

  /** @throws RmError CHECKPOINT_CORRUPT unless the part has one of these types and this shape. */
  check(
    { name, storage, shape }: StoredPart,
    storages: readonly string[],
    expected: readonly number[],
  ): void {
    if (!storages.includes(storage)) {
      throw this.damaged(name, `is stored as ${storage}, not as ${storages.join(' or ')}`);
    }
    if (shape.length !== expected.length || shape.some((size, axis) => size !== expected[axis])) {
      throw this.damaged(name, `has shape [${shape}], and [${expected}] is needed`);
    }
  }

  /** Reads rows `first` to `first + count - 1` of the first dimension. */
  async rows({ name, shape, byteLength }: StoredPart, first: number, count: number): Promise<Uint8Array> {
    const rowBytes = byteLength / (shape[0] ?? 1);
    return await this.checkpoint.readRange(name, first * rowBytes, count * rowBytes);
  }

  /** Reads columns `first` to `first + count - 1` of all rows of a matrix. */
  async columns({ name, shape, byteLength }: StoredPart, first: number, count: number): Promise<Uint8Array> {
    const [rows, wide] = shape as [number, number];
    const rowBytes = byteLength / rows;
    const [from, length] = [(first * rowBytes) / wide, (count * rowBytes) / wide];
    const out = new Uint8Array(rows * length);
    // Short pieces are cut out of whole rows.
    const step = length === rowBytes || length < SHORT ? Math.max(1, Math.floor(SLAB / rowBytes)) : 1;
    for (let row = 0; row < rows; row += step) {
      const here = Math.min(step, rows - row);
      if (step === 1) {
        const target = out.subarray(row * length, (row + 1) * length);
        await this.checkpoint.readInto(name, row * rowBytes + from, target);
        continue;
      }
      const slab = await this.checkpoint.readRange(name, row * rowBytes, here * rowBytes);
      for (let r = 0; r < here; r++) {
        const at = r * rowBytes + from;
        out.set(slab.subarray(at, at + length), (row + r) * length);
      }
    }
    return out;
  }

  /** Numbers of a part, in f32. @throws RmError NOT_FINITE naming the part. */
  scales({ name, storage }: StoredPart, bytes: Uint8Array): Float32Array {
    const values = floats[storage]!(bytes);
    const bad = values.find(value => !Number.isFinite(value));
    if (bad === undefined) return values;
    throw new RmError(
      'NOT_FINITE',
      `tensor '${name}' in ${this.checkpoint.path} holds ${bad}, by which weights are multiplied`,
      'The checkpoint is damaged: download it again.',
    );
  }

  /** The whole numbers of a small part. */
  async integers(part: StoredPart): Promise<number[]> {
    const bytes = await this.checkpoint.read(part.name);
    const wide = part.storage === 'I64';
    const signed = Int32Array.from(asU32(bytes));
    return Array.from({ length: elementCount(part.shape) }, (_, i) => signed[wide ? 2 * i : i]!);
  }
}

/** Bytes of a piece of a row below which whole rows are read, this many bytes at a time. */
const SHORT = 8 << 10;
const SLAB = 4 << 20;

/** Powers of two (E8M0); 255 is NaN. */
const powers = (bytes: Uint8Array): Float32Array =>
  Float32Array.from(bytes, byte => (byte === 255 ? Number.NaN : 2 ** (byte - 127)));

function smallFloat(byte: number): number {
  const size = byte & 127;
  if (size === 127) return Number.NaN;
  const value = size < 8 ? size * 2 ** -9 : (1 + (size & 7) / 8) * 2 ** ((size >> 3) - 7);
  return byte > 127 ? -value : value;
}

const floats: Readonly<Record<string, (bytes: Uint8Array) => Float32Array>> = {
  F32: bytes => decodeToF32(bytes, 'f32'),
  F16: bytes => decodeToF32(bytes, 'f16'),
  BF16: bytes => decodeToF32(bytes, 'bf16'),
  F8_E4M3: bytes => Float32Array.from(bytes, smallFloat),
  F8_E8M0: powers,
  // transformers and compressed-tensors keep E8M0 in bytes.
  U8: powers,
};

export const plainFloats: readonly string[] = ['F32', 'F16', 'BF16'];
/** Types of scales. */
export const scaleFloats: readonly string[] = Object.keys(floats);
