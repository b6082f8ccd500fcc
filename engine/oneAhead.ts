import type { Device } from './device.js';

/**
 * Lets the host record a piece of work while the device runs the one before, and no sooner: otherwise the host would record
 * all of them before the device has run the first.
 */
export class OneAhead {
  #running: Promise<void> = Promise.resolve();

  constructor(private readonly device: Device) {}

  /** Submits what is recorded and waits for what was submitted before. @throws RmError for any GPU failure so far. */
  async turn(): Promise<void> {
    const done = this.device.recorder.finish();
    // The next turn throws its failure.
    done.catch(() => {});
    await this.#running;
    this.#running = done;
  }

  /** Waits for the last piece. @throws RmError as `turn`. */
  async finish(): Promise<void> {
    await this.#running;
  }
}
