import type { Device, LiveState } from '../../engine/index.js';

/** Time and memory of a part of the work. */
export interface Phase {
  readonly name: PhaseName;
  readonly seconds: number;
  /** Peak device memory during the phase. */
  readonly peakBytes: number;
}

/** The parts of a run. */
export type PhaseName = 'load' | 'calibrate' | 'select' | 'fit' | 'heal' | 'evaluate' | 'write' | 'verify';

/** Measures time and memory by phase; an inner phase does not count for the outer one. */
export class PhaseClock implements LiveState {
  readonly #phases = new Map<PhaseName, { seconds: number; peakBytes: number }>();
  /** Phases in progress, the innermost last. */
  readonly #open: PhaseName[] = [];
  #since = performance.now();
  /** Seconds of the earlier processes of a resumed run. */
  #before = 0;

  /**
   * @param started performance.now() when the run began.
   * @param onTurn called when work as a phase begins, and when it has ended well.
   */
  constructor(
    private readonly device: Device,
    private readonly started = performance.now(),
    private readonly onTurn?: (name: PhaseName, ended: boolean) => void,
  ) {}

  /** Begins a phase that ends with the block: `using _ = phases.enter('fit')`. It may begin more than once; the profiler's section has its name. */
  enter(name: PhaseName): Disposable {
    this.#turn();
    const section = this.device.section(name);
    if (!this.#phases.has(name)) this.#phases.set(name, { seconds: 0, peakBytes: 0 });
    this.#open.push(name);
    return {
      [Symbol.dispose]: () => {
        this.#turn();
        this.#open.pop();
        section[Symbol.dispose]();
      },
    };
  }

  /** Runs work as a phase. */
  async during<T>(name: PhaseName, work: () => Promise<T>): Promise<T> {
    using _ = this.enter(name);
    this.onTurn?.(name, false);
    const result = await work();
    this.onTurn?.(name, true);
    return result;
  }

  /** The outermost phase in progress. */
  get outermost(): PhaseName | undefined {
    return this.#open[0];
  }

  /** Seconds since the run began, earlier processes included. */
  get seconds(): number {
    return this.#before + (performance.now() - this.started) / 1000;
  }

  /** State for a journal. */
  save(): unknown {
    this.#turn();
    return { seconds: this.seconds, phases: this.phases };
  }

  /** Restores what `save` returned. */
  restore({ seconds, phases }: { readonly seconds: number; readonly phases: readonly Phase[] }): void {
    this.#before = seconds;
    for (const { name, ...measured } of phases) this.#phases.set(name, measured);
  }

  /** All phases, in the order in which they first began. */
  get phases(): Phase[] {
    return [...this.#phases].map(([name, measured]) => ({ name, ...measured }));
  }

  /** Adds the time and memory since the last turn to the innermost phase. */
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
