import type { BufferView } from './dispatch.js';
import { RmError } from './errors.js';
import type { MemoryPool } from './memory.js';
import type { Recorder } from './recorder.js';

/** Bytes of one staging buffer, and how many there are at most: two are filled while the device copies two others. */
const SLOT = 16 << 20;
const SLOTS = 4;

/** Host memory of all staging buffers. */
export const STAGING_BYTES = SLOTS * SLOT;

/** The part of a device that staging uses. */
interface StagingHost {
  readonly memory: MemoryPool;
  readonly recorder: Recorder;
  check(): void;
  wait<T>(promise: Promise<T>): Promise<T>;
  explain(cause: unknown, what: string): Promise<never>;
}

/** Writes the bytes of a source from byte `at` on into `target`. */
export type ReadInto = (target: Uint8Array, at: number) => Promise<void> | void;

/**
 * A few mappable buffers through which bytes reach the device. A source writes straight into the driver's memory; a copy
 * on the device follows, while the next buffer is filled. A buffer is used again once its own copy is done: nothing waits
 * for other work in the queue. It is mapped only while it is filled.
 */
export class StagingBuffers {
  readonly #free: GPUBuffer[] = [];
  readonly #all: GPUBuffer[] = [];
  readonly #waiting: (() => void)[] = [];
  readonly #filling = new Set<Promise<void>>();

  constructor(private readonly device: StagingHost) {}

  /** Bytes of the buffers made so far; they stay until the device is closed. */
  get bytes(): number {
    return SLOT * this.#all.length;
  }

  /** Buffers that are mapped now. */
  get mapped(): number {
    return this.#filling.size;
  }

  /**
   * Fills the first `byteLength` bytes of a tensor with what `read` supplies, up to two pieces of 16 MiB at a time. The
   * last 32-bit word is padded with zeros.
   *
   * @throws RmError for any GPU failure so far; whatever `read` throws, after its other calls have ended.
   */
  async fill(tensor: BufferView, read: ReadInto, byteLength = tensor.byteLength): Promise<void> {
    this.device.check();
    const pieces: Promise<void>[] = [];
    const errors: unknown[] = [];
    for (let at = 0; at < byteLength && errors.length === 0; at += SLOT) {
      const bytes = Math.min(SLOT, byteLength - at);
      const slot = await this.#take(bytes);
      const piece = this.#send(slot, tensor, read, at, bytes);
      this.#filling.add(piece);
      pieces.push(
        piece
          .catch(error => {
            errors.push(error);
          })
          .finally(() => {
            this.#filling.delete(piece);
            this.#release(slot);
          }),
      );
    }
    await Promise.all(pieces);
    if (errors.length > 0) throw errors[0];
    this.device.check();
  }

  /** Waits for a buffer whose copy is done, and maps it. */
  async #take(bytes: number): Promise<GPUBuffer> {
    const slot = await this.#next();
    try {
      this.device.check();
      await this.device.wait(slot.mapAsync(GPUMapMode.WRITE, 0, padded(bytes)));
      return slot;
    } catch (cause) {
      this.#release(slot);
      if (cause instanceof RmError) throw cause;
      return await this.device.explain(cause, 'a staging buffer could not be mapped');
    }
  }

  async #next(): Promise<GPUBuffer> {
    if (this.#all.length < SLOTS) {
      const slot = this.device.memory.mappable('staging buffer', SLOT);
      this.#all.push(slot);
      return slot;
    }
    while (this.#free.length === 0) await new Promise<void>(resolve => this.#waiting.push(resolve));
    return this.#free.shift()!;
  }

  #release(slot: GPUBuffer): void {
    this.#free.push(slot);
    this.#waiting.shift()?.();
  }

  async #send(
    slot: GPUBuffer,
    tensor: BufferView,
    read: ReadInto,
    at: number,
    byteLength: number,
  ): Promise<void> {
    const { recorder } = this.device;
    const size = padded(byteLength);
    try {
      const target = new Uint8Array(slot.getMappedRange(0, size));
      target.fill(0, byteLength);
      await read(target.subarray(0, byteLength), at);
    } finally {
      slot.unmap();
    }
    this.device.check();
    recorder.copyIn(slot, tensor, at, size);
    // A buffer can be mapped again only after the commands that read it were submitted.
    recorder.flush();
  }

  /** Waits for reads in progress and destroys the buffers. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#filling);
    for (const slot of this.#all) slot.destroy();
  }
}

const padded = (bytes: number): number => Math.ceil(bytes / 4) * 4;
