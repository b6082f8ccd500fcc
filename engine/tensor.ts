import './disposeSymbols.js';
import { checkArguments, objectWith, settings } from './arguments.js';
import type { Device } from './device.js';
import { byteSize, type DType, dtypes, elementCount } from './dtype.js';
import { ensure, RmError } from './errors.js';
import { optional, text, whole } from './form.js';
import { type BufferPurpose, foreignBuffer, MemoryPool, type PooledBuffer, usage } from './memory.js';

/** Throws INVALID_ARGUMENT unless `shape` is one. */
function checkShape(what: string, shape: readonly number[]): void {
  ensure(
    Array.isArray(shape) && shape.every(extent => Number.isSafeInteger(extent) && extent >= 0),
    `${what} has shape ${Array.isArray(shape) ? `[${shape.map(String)}]` : typeof shape}`,
    'A shape is a list of integers of 0 or more.',
  );
}

/** Throws INVALID_ARGUMENT unless `device` is one; the class itself would be a circle of imports. */
function ensureDevice(device: Device, to: string): void {
  ensure(device?.memory instanceof MemoryPool, `no device to ${to}`, 'Pass what Device.open returned.');
}

/** Throws INVALID_ARGUMENT unless `value` is a tensor. */
export function ensureTensor(value: unknown, where: string): asserts value is Tensor {
  ensure(
    value instanceof Tensor,
    `${where} is ${value === null ? 'null' : typeof value}, no tensor`,
    'Pass a tensor, as Tensor.create and tensorFrom return it.',
  );
}

/** Settings of `Tensor.fromBuffer`. */
export interface BufferTensorOptions {
  /** Where the elements begin; programs bind multiples of the device's minStorageBufferOffsetAlignment (at most 256). */
  readonly byteOffset?: number;
  readonly label?: string;
}

const bufferTensorSettings = settings<BufferTensorOptions>({
  byteOffset: optional(whole()),
  label: optional(text),
});

/** Throws INVALID_ARGUMENT unless `dtype` is one. */
function checkDtype(label: string, dtype: DType): void {
  ensure(
    dtypes.includes(dtype),
    `tensor '${label}' of dtype ${typeof dtype === 'string' ? `'${dtype}'` : typeof dtype}`,
    `Dtypes are ${dtypes.join(', ')}.`,
  );
}

/**
 * A contiguous row-major array on the device. Views made by `rows` and `reshape` share the buffer of their owner and must
 * not outlive it. f16 and bf16 are packed, two elements per 32-bit word, the first in the low half.
 */
export class Tensor {
  /** Number of elements. */
  readonly size: number;
  readonly byteLength: number;
  /** Whether it consists of whole 32-bit words, or ends with its buffer: only such tensors can be copied and read back. */
  readonly wholeWords: boolean;
  #buffer: PooledBuffer | undefined;

  private constructor(
    readonly device: Device,
    readonly shape: readonly number[],
    readonly dtype: DType,
    readonly label: string,
    buffer: PooledBuffer,
    readonly byteOffset: number,
    private readonly owner: Tensor | undefined,
    private readonly isForeign = false,
  ) {
    this.#buffer = buffer;
    this.size = elementCount(shape);
    this.byteLength = this.size * byteSize(dtype);
    const end = byteOffset + this.byteLength;
    this.wholeWords = byteOffset % 4 === 0 && (end % 4 === 0 || !owner || end === owner.byteLength);
  }

  /**
   * Creates an uninitialised tensor. Kernels write all of their output; `recorder.clear` fills with zeros.
   *
   * @throws RmError INVALID_ARGUMENT; OUT_OF_MEMORY; the device's failure, also after `close`.
   */
  static create(
    device: Device,
    shape: readonly number[],
    dtype: DType = 'f32',
    label = 'tensor',
    purpose: BufferPurpose = 'temporary',
  ): Tensor {
    ensureDevice(device, 'create a tensor on');
    device.check();
    ensure(typeof label === 'string', `a tensor's label is ${typeof label}`, 'Pass a text, or leave it out.');
    checkShape(`tensor '${label}'`, shape);
    checkDtype(label, dtype);
    ensure(
      purpose === 'temporary' || purpose === 'weights',
      `tensor '${label}' has a purpose that is not known`,
      "Pass 'temporary' or 'weights'.",
    );
    const buffer = device.memory.allocate(elementCount(shape) * byteSize(dtype), label, purpose);
    return new Tensor(device, [...shape], dtype, label, buffer, 0, undefined);
  }

  /**
   * A tensor of elements that another program of the same GPUDevice keeps in `gpu`. It owns nothing: `dispose` leaves the
   * buffer as it is, and no limit counts it. Call `recorder.flush()` before the other program reads what was recorded here;
   * what that has submitted is read without more.
   *
   * @param gpu with the usages STORAGE, COPY_SRC and COPY_DST, and room up to the next multiple of 16 bytes, which kernels
   *   may read (and none writes).
   * @throws RmError INVALID_ARGUMENT where it is not such a buffer, or one of another device.
   */
  static fromBuffer(
    device: Device,
    gpu: GPUBuffer,
    shape: readonly number[],
    dtype: DType = 'f32',
    options: BufferTensorOptions = {},
  ): Tensor {
    ensureDevice(device, 'take a buffer of');
    device.check();
    checkArguments(
      'Tensor.fromBuffer',
      { gpu, options },
      { gpu: objectWith('a GPUBuffer', 'size', 'usage', 'mapState'), options: bufferTensorSettings },
    );
    const { byteOffset = 0, label = gpu.label || 'foreign buffer' } = options;
    checkShape(`tensor '${label}'`, shape);
    checkDtype(label, dtype);
    const bytes = elementCount(shape) * byteSize(dtype);
    ensure(
      bytes % 4 === 0 && byteOffset % 4 === 0,
      `tensor '${label}' [${shape}] ${dtype} begins or ends within a 32-bit word`,
      'Take an even number of 16-bit elements.',
    );
    const needed = byteOffset + Math.ceil(bytes / 16) * 16;
    ensure(
      needed <= gpu.size,
      `tensor '${label}' [${shape}] ${dtype} needs ${needed} bytes of its buffer, which has ${gpu.size}`,
      'Pass the shape that it has, and make its size a multiple of 16 bytes.',
    );
    ensure(
      (gpu.usage & usage()) === usage() && gpu.mapState === 'unmapped',
      `the buffer of tensor '${label}' cannot be bound and copied`,
      'Make it with the usages STORAGE, COPY_SRC and COPY_DST, and unmap it.',
    );
    const errors = device.errorsOf(() => {
      const encoder = device.gpu.createCommandEncoder();
      encoder.clearBuffer(gpu, 0, 0);
      encoder.finish();
    });
    ensure(
      errors.length === 0,
      `the buffer of tensor '${label}' is not one of this device`,
      'Open the device with `Device.from` on the GPUDevice that made the buffer.',
    );
    return new Tensor(device, [...shape], dtype, label, foreignBuffer(gpu), byteOffset, undefined, true);
  }

  /** The buffer that holds the elements. @throws RmError INVALID_ARGUMENT after dispose. */
  get buffer(): PooledBuffer {
    const buffer = this.owner ? this.owner.buffer : this.#buffer;
    if (!buffer) {
      throw new RmError(
        'INVALID_ARGUMENT',
        `tensor '${this.label}' is used after dispose`,
        'Keep it alive until its last use.',
      );
    }
    return buffer;
  }

  /** Extent of the last dimension. */
  get columns(): number {
    const { shape } = this;
    return shape.length ? shape[shape.length - 1]! : 1;
  }

  /** Product of all dimensions but the last. */
  get rowCount(): number {
    const { shape } = this;
    let count = 1;
    for (let i = 0; i < shape.length - 1; i++) count *= shape[i]!;
    return count;
  }

  /**
   * A view of rows start .. start+count-1 of the first dimension. A program can bind it only if its first byte is aligned
   * to the device's minStorageBufferOffsetAlignment (at most 256); copies work at any row.
   *
   * @throws RmError INVALID_ARGUMENT when out of range.
   */
  rows(start: number, count: number): Tensor {
    const [extent = 1, ...rest] = this.shape;
    const whole = Number.isInteger(start) && Number.isInteger(count);
    if (!(whole && start >= 0 && count >= 0 && start + count <= extent)) {
      throw new RmError(
        'INVALID_ARGUMENT',
        `rows ${String(start)} and ${String(count)} more of '${this.label}' [${this.shape}]`,
        'Stay within the first dimension.',
      );
    }
    return this.#view([count, ...rest], this.byteOffset + start * elementCount(rest) * byteSize(this.dtype));
  }

  /** A view of the same elements in another shape. @throws RmError INVALID_ARGUMENT when the sizes differ. */
  reshape(shape: readonly number[]): Tensor {
    checkShape(`'${this.label}' [${this.shape}] seen`, shape);
    if (elementCount(shape) !== this.size) {
      throw new RmError(
        'INVALID_ARGUMENT',
        `'${this.label}' [${this.shape}] cannot be seen as [${shape}]`,
        'Both shapes must have the same number of elements.',
      );
    }
    return this.#view([...shape], this.byteOffset);
  }

  #view(shape: readonly number[], byteOffset: number): Tensor {
    const owner = this.owner ?? this;
    return new Tensor(this.device, shape, this.dtype, this.label, owner.buffer, byteOffset, owner);
  }

  /** Returns the buffer to the pool. Repeating it, or calling it on a view, does nothing. */
  dispose(): void {
    if (this.owner || !this.#buffer) return;
    if (!this.isForeign) this.device.memory.release(this.#buffer);
    this.#buffer = undefined;
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Owns temporary tensors and disposes them together: `using scope = new Scope(device)`. */
export class Scope {
  readonly #tensors: Tensor[] = [];

  constructor(readonly device: Device) {
    ensureDevice(device, 'own tensors of');
  }

  /** Creates an uninitialised tensor that the scope owns. */
  tensor(shape: readonly number[], dtype: DType = 'f32', label = 'temporary'): Tensor {
    return this.own(Tensor.create(this.device, shape, dtype, label));
  }

  /** The same for weights, whose buffers are as large as they are. */
  weights(shape: readonly number[], dtype: DType, label: string): Tensor {
    return this.own(Tensor.create(this.device, shape, dtype, label, 'weights'));
  }

  /** Takes ownership of a tensor made elsewhere, and returns it. */
  own(tensor: Tensor): Tensor {
    ensureTensor(tensor, 'what a scope should own');
    ensure(
      tensor.device === this.device,
      `'${tensor.label}' is on another device`,
      'Use a scope of its device.',
    );
    this.#tensors.push(tensor);
    return tensor;
  }

  /** Hands ownership of a tensor back to the caller. */
  release(tensor: Tensor): Tensor {
    ensureTensor(tensor, 'what a scope should release');
    const at = this.#tensors.indexOf(tensor);
    if (at >= 0) this.#tensors.splice(at, 1);
    return tensor;
  }

  /** Hands ownership of all tensors to the caller. */
  releaseAll(): Tensor[] {
    return this.#tensors.splice(0);
  }

  /** Disposes all tensors that the scope owns. */
  dispose(): void {
    for (const tensor of this.releaseAll()) tensor.dispose();
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
