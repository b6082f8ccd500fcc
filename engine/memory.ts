import { RmError } from './errors.js';
import { formatBytes } from './format.js';
import type { Guards } from './guards.js';
import { reasonOf } from './reasons.js';

/** A GPU buffer of the pool. `id` identifies it in bind-group caches and is never reused. */
export interface PooledBuffer {
  readonly id: number;
  readonly gpu: GPUBuffer;
  readonly bytes: number;
  /** The first byte of its guard, where tests guard tensors; bindings that reach it include it. */
  readonly guard?: number;
}

/** Over all devices, so that no cache takes the buffer of one for that of another. */
let nextId = 1;

/** Buffers that were made elsewhere: one id for each, whatever tensors are made of it. */
const foreign = new WeakMap<GPUBuffer, PooledBuffer>();

/** A buffer of another program as one that no pool takes back. */
export function foreignBuffer(gpu: GPUBuffer): PooledBuffer {
  const buffer = foreign.get(gpu) ?? { id: nextId++, gpu, bytes: gpu.size };
  foreign.set(gpu, buffer);
  return buffer;
}

export const usage = () => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;

/**
 * Rounds a size up to that of a pooled buffer. Sizes grow in steps of at most 25 %, so that variable shapes reuse buffers
 * and waste little. They are multiples of 256, so that a vec4 binding may reach past the end of an odd-sized tensor.
 */
export function sizeClass(bytes: number): number {
  const least = Math.max(256, bytes);
  const step = Math.max(256, 2 ** (Math.floor(Math.log2(least)) - 2));
  return Math.ceil(least / step) * step;
}

/** The size of a buffer that is not shared by tensors of other shapes: its bytes, rounded up as a vec4 binding needs it. */
export const exactSize = (bytes: number): number => Math.max(256, Math.ceil(bytes / 256) * 256);

/** What a buffer is for: weights take what they weigh; temporaries are of few sizes, so that buffers can be reused. */
export type BufferPurpose = 'temporary' | 'weights';

/** What is in use under one label. */
export interface LabelledMemory {
  readonly label: string;
  /** Tensors, views not counted, and the bytes of their buffers. */
  readonly count: number;
  readonly bytes: number;
}

/** A pool of GPU buffers with counters and a limit. Dawn never collects buffers, so their lifetimes are explicit. */
export class MemoryPool {
  readonly #free = new Map<number, PooledBuffer[]>();
  readonly #labels = new Map<PooledBuffer, string>();
  /** Size of the largest buffer; read once, since reading Dawn's limits crosses into native code. */
  readonly #largest: number;
  #limit: number;
  #refusedAt: number | undefined;
  #pooledBytes = 0;
  #leavingBytes = 0;
  #liveBytes = 0;
  #peakBytes = 0;
  #recentPeakBytes = 0;
  #budget = Number.POSITIVE_INFINITY;

  constructor(
    private readonly device: GPUDevice,
    limit: number,
    private readonly hooks: {
      /** Called before buffers are destroyed, since recorded commands may still use them. */
      beforeDestroy(): void;
      /** Called after buffers are destroyed, so that caches drop them. */
      destroyed(): void;
      failed(error: RmError): void;
    },
    /** For tests: bytes beyond which buffers fail as they do where a driver has no room. */
    private readonly capacity = Number.POSITIVE_INFINITY,
    private readonly guards?: Guards,
  ) {
    this.#limit = limit;
    this.#largest = Math.floor(device.limits.maxBufferSize / 256) * 256;
  }

  /** Limit in bytes on all buffers together. */
  get limit(): number {
    return this.#limit;
  }

  /** @internal Lowers the limit: after the driver has refused a buffer, to less than it held then. */
  lowerLimit(bytes: number): void {
    this.#limit = Math.min(this.#limit, bytes, 0.95 * (this.#refusedAt ?? Number.POSITIVE_INFINITY));
    this.#refusedAt = undefined;
  }

  /** Bytes of tensors that are not disposed. */
  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** Largest sum of live and pooled bytes so far; buffers that are leaving come on top. */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  /** Bytes of free buffers that the pool keeps for reuse. */
  get pooledBytes(): number {
    return this.#pooledBytes;
  }

  /** Bytes of destroyed buffers that the driver still holds: it frees them after the next submit. */
  get leavingBytes(): number {
    return this.#leavingBytes;
  }

  /** What the driver holds now: live, pooled and destroyed buffers. */
  get heldBytes(): number {
    return this.#liveBytes + this.#pooledBytes + this.#leavingBytes;
  }

  /** What is in use, by label, the largest first: their bytes add up to `liveBytes`. */
  tensors(): LabelledMemory[] {
    const sums = new Map<string, { label: string; count: number; bytes: number }>();
    for (const [{ bytes }, label] of this.#labels) {
      const sum = sums.get(label) ?? { label, count: 0, bytes: 0 };
      sum.count++;
      sum.bytes += bytes;
      sums.set(label, sum);
    }
    return [...sums.values()].sort((a, b) => b.bytes - a.bytes);
  }

  /** Returns the largest sum of live and pooled bytes since the last call. */
  takePeak(): number {
    const peak = this.#recentPeakBytes;
    this.#recentPeakBytes = this.#liveBytes + this.#pooledBytes;
    return peak;
  }

  /**
   * Limits live and pooled bytes to `bytes` until the result is disposed: above it, `allocate` destroys the free buffers
   * first. Live buffers alone may exceed it.
   */
  budget(bytes: number): Disposable {
    const before = this.#budget;
    this.#budget = bytes;
    return {
      [Symbol.dispose]: () => {
        this.#budget = before;
      },
    };
  }

  /**
   * Takes a free buffer of the size or creates one.
   *
   * @throws RmError OUT_OF_MEMORY when the limit or the device's largest buffer is exceeded.
   */
  allocate(bytes: number, label: string, purpose: BufferPurpose = 'temporary'): PooledBuffer {
    // Rounding up must not turn a size that fits into one that does not.
    const largest = this.#largest;
    const rounded = purpose === 'weights' ? exactSize(bytes) : sizeClass(bytes);
    const size = bytes <= largest ? Math.min(rounded, largest) : rounded;
    const { guards } = this;
    // A guarded buffer is used once, so that its guard is behind its own tensor.
    const free = guards ? undefined : this.#free.get(size)?.pop();
    if (free) {
      this.#pooledBytes -= size;
      this.#liveBytes += size;
      this.#labels.set(free, label);
      return free;
    }
    if (size > largest) {
      throw new RmError(
        'OUT_OF_MEMORY',
        `'${label}' needs a buffer of ${formatBytes(size)}; this device allows at most ${formatBytes(largest)}`,
        'Use fewer tokens per batch, or a device with larger buffers.',
      );
    }
    if (this.#liveBytes + this.#pooledBytes + size > Math.min(this.limit, this.#budget)) this.trim();
    if (this.#liveBytes + size > this.limit) {
      throw new RmError(
        'OUT_OF_MEMORY',
        `'${label}' needs ${formatBytes(size)}; ${formatBytes(this.#liveBytes)} of ${formatBytes(this.limit)} are in use`,
        'Use fewer tokens per batch or a smaller model, close other programs on this GPU, or raise `memoryLimit`.',
      );
    }
    if (guards && this.#pooledBytes > guards.batch) this.trim();
    const gpu = this.#create({
      ...{ label, usage: usage(), size: guards?.size(bytes, size) ?? size },
      mappedAtCreation: guards !== undefined,
    });
    this.#liveBytes += size;
    const inUse = this.#liveBytes + this.#pooledBytes;
    this.#peakBytes = Math.max(this.#peakBytes, inUse);
    this.#recentPeakBytes = Math.max(this.#recentPeakBytes, inUse);
    const buffer = { id: nextId++, gpu, bytes: size, ...(guards && { guard: guards.fill(gpu, bytes) }) };
    this.#labels.set(buffer, label);
    return buffer;
  }

  /** @internal Creates a buffer outside the pool that the host can map for writing; the caller destroys it. */
  mappable(label: string, size: number): GPUBuffer {
    return this.#create({ label, size, usage: GPUBufferUsage.MAP_WRITE | GPUBufferUsage.COPY_SRC });
  }

  #create(descriptor: GPUBufferDescriptor & { readonly label: string }): GPUBuffer {
    const { label, size } = descriptor;
    const held = this.heldBytes;
    const refused = (reason: string) => {
      this.#refusedAt ??= held;
      this.hooks.failed(
        new RmError(
          'OUT_OF_MEMORY',
          `the driver has no room for '${label}' (${formatBytes(size)}): ${reason}`,
          'Use fewer tokens per batch or a smaller model, or close other programs on this GPU.',
        ),
      );
    };
    this.device.pushErrorScope('out-of-memory');
    const gpu = this.device.createBuffer(descriptor);
    this.device.popErrorScope().then(
      error => {
        if (error) refused(reasonOf(error));
        else if (held + size > this.capacity) refused('more than the capacity that a test has set');
      },
      () => {},
    );
    return gpu;
  }

  /** Returns a buffer to the pool. Commands recorded with it stay valid: one queue runs them in order. */
  release(buffer: PooledBuffer): void {
    this.#labels.delete(buffer);
    this.#liveBytes -= buffer.bytes;
    this.#pooledBytes += buffer.bytes;
    const list = this.#free.get(buffer.bytes);
    if (list) list.push(buffer);
    else this.#free.set(buffer.bytes, [buffer]);
  }

  /** Destroys all free buffers. The driver holds them until a later submit is done: `Device.reclaim` waits for it. */
  trim(): void {
    if (this.#pooledBytes === 0) return;
    this.hooks.beforeDestroy();
    const buffers = [...this.#free.values()].flat();
    this.guards?.keep(buffers.map(({ gpu, guard }) => ({ gpu, guard: guard!, label: gpu.label })));
    for (const { gpu } of buffers) gpu.destroy();
    this.hooks.destroyed();
    this.#free.clear();
    this.#leavingBytes += this.#pooledBytes;
    this.#pooledBytes = 0;
  }

  /** @internal Called when a submit after the destruction of so many bytes is done. */
  letGo(bytes: number): void {
    this.#leavingBytes -= bytes;
  }
}
