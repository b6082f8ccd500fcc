import {
  byteSize,
  type DType,
  decodeToF32,
  elementCount,
  encodeFromF32,
  ensure,
  RmError,
} from '../../engine/index.js';
import type { Checkpoint, OpaqueTensor, TensorInfo } from './checkpoint.js';
import { filled } from './fileReads.js';

/** Number type of stored weights. */
export type WeightDtype = Exclude<DType, 'u32'>;

export const weightDtypes: readonly WeightDtype[] = ['f32', 'f16', 'bf16'];

/** Bytes converted at a time. */
const PIECE = 16 << 20;

const isWeight = ({ dtype }: TensorInfo): boolean => dtype !== 'u32';

/** Names of tensors whose type can be read. Checkpoints may hold others (masks, positions), which no model needs. */
const readable = (checkpoint: Checkpoint): string[] =>
  checkpoint.names.filter(name => !checkpoint.opaque(name));

/** Presents a checkpoint's weights in another number type; rounds to nearest even on reading. */
class ConvertedCheckpoint implements Checkpoint {
  readonly path: string;
  readonly names: readonly string[];
  readonly totalBytes: number;

  constructor(
    readonly stored: Checkpoint,
    private readonly dtype: WeightDtype,
    private readonly changes: (info: TensorInfo) => boolean,
  ) {
    this.path = stored.path;
    this.names = stored.names;
    this.totalBytes = readable(stored).reduce((sum, name) => sum + this.info(name).byteLength, 0);
  }

  has(name: string): boolean {
    return this.stored.has(name);
  }

  opaque(name: string): OpaqueTensor | undefined {
    return this.stored.opaque(name);
  }

  info(name: string): TensorInfo {
    const stored = this.stored.info(name);
    if (!this.changes(stored)) return stored;
    const { dtype } = this;
    // Blocks are dequantised straight to this type on the device.
    if (stored.blocks) return { ...stored, dtype };
    return { ...stored, dtype, byteLength: elementCount(stored.shape) * byteSize(dtype) };
  }

  read(name: string): Promise<Uint8Array> {
    return this.readRange(name, 0, (this.opaque(name) ?? this.info(name)).byteLength);
  }

  readRange(name: string, byteStart: number, byteLength: number): Promise<Uint8Array> {
    return filled(byteLength, target => this.readInto(name, byteStart, target));
  }

  async readInto(name: string, byteStart: number, target: Uint8Array): Promise<void> {
    if (this.opaque(name)) return this.stored.readInto(name, byteStart, target);
    const stored = this.stored.info(name);
    if (!this.changes(stored) || stored.blocks || stored.dtype === this.dtype) {
      return this.stored.readInto(name, byteStart, target);
    }
    const { byteLength } = target;
    const [size, storedSize] = [byteSize(this.dtype), byteSize(stored.dtype)];
    ensure(
      byteStart % size === 0 && byteLength % size === 0,
      `bytes ${byteStart} to ${byteStart + byteLength} of tensor ${JSON.stringify(name)} cut an element in two`,
      `Read a multiple of ${size} bytes, from a multiple of ${size} on.`,
    );
    for (let done = 0; done < byteLength; done += PIECE) {
      const count = Math.min(PIECE, byteLength - done) / size;
      const first = (byteStart + done) / size;
      const bytes = await this.stored.readRange(name, first * storedSize, count * storedSize);
      target.set(this.#converted(name, decodeToF32(bytes, stored.dtype)), done);
    }
  }

  #converted(name: string, values: Float32Array): Uint8Array {
    const bytes = encodeFromF32(values, this.dtype);
    if (this.dtype === 'f32') return bytes;
    const rounded = decodeToF32(bytes, this.dtype);
    for (let i = 0; i < rounded.length; i++) {
      // The loader reports values that are not finite on disk.
      if (Number.isFinite(rounded[i]!) || !Number.isFinite(values[i]!)) continue;
      throw new RmError(
        'NOT_FINITE',
        `tensor '${name}' in ${this.path} holds ${values[i]!.toPrecision(6)}, which overflows ${this.dtype}`,
        `Choose ${this.dtype === 'f16' ? 'bf16, which has the range of f32' : 'f32'}, or keep the model's number type.`,
      );
    }
    return bytes;
  }

  close(): Promise<void> {
    return this.stored.close();
  }
}

/**
 * Presents a checkpoint as if its weights were stored as `dtype`. Returns it unchanged if they already are, or if `dtype`
 * is undefined.
 *
 * @throws RmError (on reading) NOT_FINITE naming a tensor with a value outside the type's range.
 */
export function inDtype(checkpoint: Checkpoint, dtype: WeightDtype | undefined): Checkpoint {
  if (dtype === undefined) return checkpoint;
  const same = readable(checkpoint).every(name => [dtype, 'u32'].includes(checkpoint.info(name).dtype));
  return same ? checkpoint : new ConvertedCheckpoint(checkpoint, dtype, isWeight);
}

/** Presents tensors stored in blocks as numbers of `dtype`; leaves the others as they are. */
export const blocksInDtype = (checkpoint: Checkpoint, dtype: WeightDtype): Checkpoint =>
  new ConvertedCheckpoint(checkpoint, dtype, ({ blocks }) => blocks !== undefined);

/** The checkpoint behind `inDtype` or `blocksInDtype`. */
export const storedCheckpoint = (checkpoint: Checkpoint): Checkpoint =>
  checkpoint instanceof ConvertedCheckpoint ? checkpoint.stored : checkpoint;

const torchNames: Readonly<Record<WeightDtype, string>> = {
  f32: 'float32',
  f16: 'float16',
  bf16: 'bfloat16',
};

/** Sets the weights' number type in a parsed config.json, under its own key: "dtype" (transformers 5) or "torch_dtype". */
export function configInDtype(
  config: Readonly<Record<string, unknown>>,
  dtype: WeightDtype | undefined,
): Record<string, unknown> {
  if (dtype === undefined) return { ...config };
  const named = (values: Readonly<Record<string, unknown>>): Record<string, unknown> =>
    Object.fromEntries(
      Object.entries(values).map(([key, value]) => {
        if (key === 'dtype' || key === 'torch_dtype') return [key, torchNames[dtype]];
        // Models with several parts have a nested configuration for each.
        const nested = /_config$/.test(key) && typeof value === 'object' && value !== null;
        return [key, nested ? named(value as Record<string, unknown>) : value];
      }),
    );
  const changed = named(config);
  return 'dtype' in changed || 'torch_dtype' in changed
    ? changed
    : { ...changed, torch_dtype: torchNames[dtype] };
}
