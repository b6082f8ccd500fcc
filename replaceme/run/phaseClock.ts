import type { Device, LiveState } from '../../engine/index.js';

/** A part of the work. */
export interface Phase {
  readonly name: PhaseName;
  readonly seconds: number;
  /** Device memory at the most during it. */
  readonly peakBytes: number;
}

/** The parts that work is divided in. */
export type PhaseName = 'load' | 'calibrate' | 'select' | 'fit' | 'heal' | 'evaluate' | 'write' | 'verify';

/** Time and memory by phase: what is done within an inner phase does not count for the outer one. */
export class PhaseClock implements LiveState {
  readonly #phases = new Map<PhaseName, { seconds: number; peakBytes: number }>();
  /** The phases that have begun, the inner ones last. */
  readonly #open: PhaseName[] = [];
  #since = performance.now();
  /** Of processes before, whose run this one goes on with. */
  #before = 0;

  /** @param started performance.now() when the run began. */
  constructor(
    private readonly device: Device,
    private readonly started = performance.now(),
  ) {}

  /** Begins a phase that ends with the block: `using _ = phases.enter('fit')`. It may begin more than once. */
  enter(name: PhaseName): Disposable {
    this.#turn();
    if (!this.#phases.has(name)) this.#phases.set(name, { seconds: 0, peakBytes: 0 });
    this.#open.push(name);
    return {
      [Symbol.dispose]: () => {
        this.#turn();
        this.#open.pop();
      },
    };
  }

  /** The same for a piece of work. */
  async during<T>(name: PhaseName, work: () => Promise<T>): Promise<T> {
    using _ = this.enter(name);
    return await work();
  }

  /** The phase in progress, the innermost. */
  get current(): PhaseName | undefined {
    return this.#open.at(-1);
  }

  /** Since the run began. */
  get seconds(): number {
    return this.#before + (performance.now() - this.started) / 1000;
  }

  /** For a journal: what another process goes on from. */
  save(): unknown {
    this.#turn();
    return { seconds: this.seconds, phases: this.phases };
  }

  /** Takes up what `save` gave. */
  restore({ seconds, phases }: { readonly seconds: number; readonly phases: readonly Phase[] }): void {
    this.#before = seconds;
    for (const { name, ...measured } of phases) this.#phases.set(name, measured);
  }

  /** In the order in which they began first. */
  get phases(): Phase[] {
    return [...this.#phases].map(([name, measured]) => ({ name, ...measured }));
  }

  /** Counts what has been since the last turn for the innermost phase. */
  #turn(): void {
    const now = performance.now();
    const peakBytes = this.device.memory.takePeak();
    const current = this.#phases.get(this.#open.at(-1)!);
    if (current) {
      current.seconds += (now - this.#since) / 1000;
      current.peakBytes = Math.max(current.peakBytes, peakBytes);
    }
    this.#since = now;
  }
}
