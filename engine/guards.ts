import { RmError } from './errors.js';
import { formatBytes } from './format.js';

/** Bytes behind every tensor that nothing may read or write. */
const GUARD_BYTES = 4096;
/** NaN as f32, as two f16 and as two bf16; as u32 an index out of every range. */
const POISON = 0x7fc07fc0;

/** The first byte behind a tensor that no vec4 binding reaches. */
const guardOf = (bytes: number): number => Math.ceil(bytes / 16) * 16;

/** A buffer of the pool with a guard behind its tensor. */
interface Guarded {
  readonly gpu: GPUBuffer;
  /** The guard's first byte. */
  readonly guard: number;
  readonly label: string;
}

/**
 * For tests: buffers that are full of NaN when they are made and end with a guard of NaN, which bindings include. A program
 * that reads behind a tensor, or what nothing has written, computes NaN; one that writes there changes the guard. With
 * robustness an index that is far out of range (below 0 too) is moved to the last word of the guard.
 */
export class Guards {
  /** Released buffers of so many bytes are looked at and destroyed together. */
  readonly batch = 64 * 2 ** 20;
  readonly #copies: { readonly copy: GPUBuffer; readonly labels: readonly string[] }[] = [];

  constructor(private readonly device: GPUDevice) {}

  /** Bytes of the buffer for a tensor of so many, which is at least `size`. */
  size(bytes: number, size: number): number {
    return Math.max(size, guardOf(bytes) + GUARD_BYTES);
  }

  /** Fills a buffer that was created mapped. @returns the first byte of its guard. */
  fill(gpu: GPUBuffer, bytes: number): number {
    new Uint32Array(gpu.getMappedRange()).fill(POISON);
    gpu.unmap();
    return guardOf(bytes);
  }

  /** Keeps the guards of buffers that are about to be destroyed, as all submitted work leaves them. */
  keep(buffers: readonly Guarded[]): void {
    if (buffers.length === 0) return;
    const copy = this.device.createBuffer({
      label: 'guards',
      size: buffers.length * GUARD_BYTES,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
    const encoder = this.device.createCommandEncoder();
    for (const [i, { gpu, guard }] of buffers.entries())
      encoder.copyBufferToBuffer(gpu, guard, copy, i * GUARD_BYTES, GUARD_BYTES);
    this.device.queue.submit([encoder.finish()]);
    this.#copies.push({ copy, labels: buffers.map(({ label }) => label) });
  }

  /** Looks at all guards kept so far. @throws RmError GPU_ERROR where one has changed. */
  async check(): Promise<void> {
    for (const { copy, labels } of this.#copies.splice(0)) {
      await copy.mapAsync(GPUMapMode.READ);
      const words = new Uint32Array(copy.getMappedRange());
      const changed = words.findIndex(word => word !== POISON);
      copy.destroy();
      if (changed < 0) continue;
      const at = 4 * changed;
      throw new RmError(
        'GPU_ERROR',
        `a program wrote ${formatBytes(at % GUARD_BYTES)} behind '${labels[Math.floor(at / GUARD_BYTES)]}'`,
        'Please report this with the output of: rm-engine doctor',
      );
    }
  }
}
