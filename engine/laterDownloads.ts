import type { Device } from './device.js';
import { asF32 } from './dtype.js';
import type { LiveState } from './journal.js';
import type { Tensor } from './tensor.js';
import { downloadTogether } from './transfer.js';

/** Most bytes that wait: this, and this share of the memory limit. */
const MOST_BYTES = 2 ** 26;
const SHARE = 1 / 256;

interface Waiting {
  readonly tensors: readonly Tensor[];
  readonly use: (bytes: readonly Uint8Array[]) => void;
}

/**
 * Small results of many batches (norms, losses) that stay on the device until one download brings them all, so that the host
 * does not wait for the device at every batch.
 */
export class LaterDownloads {
  #waiting: Waiting[] = [];
  #bytes = 0;

  constructor(private readonly device: Device) {}

  /**
   * Takes ownership of tensors and hands their bytes to `use` when they arrive, in the order of the calls. Everything arrives
   * at once where too much waits.
   *
   * @throws RmError for any GPU failure so far; whatever a `use` throws.
   */
  async read(tensors: readonly Tensor[], use: Waiting['use']): Promise<void> {
    this.#waiting.push({ tensors, use });
    for (const { byteLength } of tensors) this.#bytes += byteLength;
    if (this.#bytes > Math.min(MOST_BYTES, SHARE * this.device.memory.limit)) await this.arrive();
  }

  /** `read` for f32 tensors. */
  readF32(tensors: readonly Tensor[], use: (values: readonly Float32Array[]) => void): Promise<void> {
    return this.read(tensors, bytes => use(bytes.map(asF32)));
  }

  /** A state that changes with what arrives, and is saved after that. */
  before(state: LiveState): LiveState {
    return {
      arrive: () => this.arrive(),
      save: () => state.save(),
      restore: saved => state.restore(saved),
    };
  }

  /** Brings what waits to the host. @throws RmError as `read`. */
  async arrive(): Promise<void> {
    const arriving = this.#waiting;
    this.#waiting = [];
    this.#bytes = 0;
    const tensors = arriving.flatMap(each => each.tensors);
    try {
      const bytes = await downloadTogether(tensors);
      let first = 0;
      for (const each of arriving) {
        each.use(bytes.slice(first, first + each.tensors.length));
        first += each.tensors.length;
      }
    } finally {
      for (const tensor of tensors) tensor.dispose();
    }
  }

  /** Drops what has not arrived. */
  [Symbol.dispose](): void {
    for (const { tensors } of this.#waiting.splice(0)) for (const tensor of tensors) tensor.dispose();
  }
}
