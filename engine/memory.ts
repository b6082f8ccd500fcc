import { RmError } from './errors.js';
import { formatBytes } from './format.js';

/** A GPU buffer of the pool. `id` names it in bind-group caches; ids are never used twice. */
export interface PooledBuffer {
  readonly id: number;
  readonly gpu: GPUBuffer;
  readonly bytes: number;
}

const usage = () => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;

/**
 * Sizes grow in steps of at most 25 %, so that variable shapes reuse buffers and little is wasted. Every size is a
 * multiple of 256, so that a vec4 binding may reach past the end of an odd-sized tensor.
 */
export function sizeClass(bytes: number): number {
  const least = Math.max(256, bytes);
  const step = Math.max(256, 2 ** (Math.floor(Math.log2(least)) - 2));
  return Math.ceil(least / step) * step;
}

/** Buffers by size class with counters and a limit. Dawn never collects buffers, so lifetimes are explicit. */
export class MemoryPool {
  readonly #free = new Map<number, PooledBuffer[]>();
  /** Size of the largest buffer; read once, since every look at Dawn's limits crosses into native code. */
  readonly #most: number;
  #nextId = 1;
  #pooledBytes = 0;
  #liveBytes = 0;
  #peakBytes = 0;
  #recentPeakBytes = 0;
  #budget = Number.POSITIVE_INFINITY;

  constructor(
    private readonly device: GPUDevice,
    /** Most bytes of live and pooled buffers together. */
    readonly limit: number,
    private readonly hooks: {
      /** Called before buffers are destroyed: recorded commands may still name them. */
      beforeDestroy(): void;
      /** Called after: nothing may keep naming them. */
      destroyed(): void;
      failed(error: RmError): void;
    },
  ) {
    this.#most = Math.floor(device.limits.maxBufferSize / 256) * 256;
  }

  /** Bytes in tensors not yet disposed. */
  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** Largest sum of live and pooled bytes so far. */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  /** Bytes in buffers that wait for their next use. */
  get pooledBytes(): number {
    return this.#pooledBytes;
  }

  /** Largest sum of live and pooled bytes since this was last called. */
  takePeak(): number {
    const peak = this.#recentPeakBytes;
    this.#recentPeakBytes = this.#liveBytes + this.#pooledBytes;
    return peak;
  }

  /**
   * Until it is disposed, buffers that wait for their next use are given up before they and the live ones exceed `bytes`.
   * Live ones may.
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

  /** @throws RmError OUT_OF_MEMORY when the limit or the device's largest buffer is exceeded. */
  allocate(bytes: number, label: string): PooledBuffer {
    // Not past the largest buffer there is: what fits exactly must not fail for being rounded up.
    const most = this.#most;
    const size = bytes <= most ? Math.min(sizeClass(bytes), most) : sizeClass(bytes);
    const free = this.#free.get(size)?.pop();
    if (free) {
      this.#pooledBytes -= size;
      this.#liveBytes += size;
      return free;
    }
    if (size > most) {
      throw new RmError(
        'OUT_OF_MEMORY',
        `'${label}' needs a buffer of ${formatBytes(size)}, this device allows ${formatBytes(most)}`,
        'Use fewer tokens per batch, or a device with larger buffers.',
      );
    }
    if (this.#liveBytes + this.#pooledBytes + size > Math.min(this.limit, this.#budget)) this.trim();
    if (this.#liveBytes + size > this.limit) {
      throw new RmError(
        'OUT_OF_MEMORY',
        `'${label}' needs ${formatBytes(size)}; ${formatBytes(this.#liveBytes)} of ${formatBytes(this.limit)} are in use`,
        'Use fewer tokens per batch or a smaller model, close other programs on this GPU, or raise --memory-limit.',
      );
    }
    this.device.pushErrorScope('out-of-memory');
    const gpu = this.device.createBuffer({ label, size, usage: usage() });
    this.device.popErrorScope().then(
      error => {
        if (!error) return;
        this.hooks.failed(
          new RmError(
            'OUT_OF_MEMORY',
            `the driver has no room for '${label}' (${formatBytes(size)}): ${error.message}`,
            'Use fewer tokens per batch or a smaller model, or close other programs on this GPU.',
          ),
        );
      },
      () => {},
    );
    this.#liveBytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes + this.#pooledBytes);
    this.#recentPeakBytes = Math.max(this.#recentPeakBytes, this.#liveBytes + this.#pooledBytes);
    return { id: this.#nextId++, gpu, bytes: size };
  }

  /** Gives a buffer back. Commands already recorded with it stay valid: one queue runs them in order. */
  release(buffer: PooledBuffer): void {
    this.#liveBytes -= buffer.bytes;
    this.#pooledBytes += buffer.bytes;
    const list = this.#free.get(buffer.bytes);
    if (list) list.push(buffer);
    else this.#free.set(buffer.bytes, [buffer]);
  }

  /** Destroys all pooled buffers. */
  trim(): void {
    if (this.#pooledBytes === 0) return;
    this.hooks.beforeDestroy();
    for (const list of this.#free.values()) {
      for (const buffer of list) buffer.gpu.destroy();
    }
    this.hooks.destroyed();
    this.#free.clear();
    this.#pooledBytes = 0;
  }
}
