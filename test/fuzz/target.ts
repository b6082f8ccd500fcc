import type { Random } from './random.js';

/** Changes an input at random. */
export type Mutator = (input: Uint8Array, random: Random) => Uint8Array;

/** One format that the program reads, and the function that a user's file goes through. An input is the bytes of one file. */
export interface Target {
  /** Small valid inputs to begin from, the same on every machine; `folder` is an empty one to work in. */
  corpus(folder: string): Promise<readonly Uint8Array[]>;
  readonly mutate: Mutator;
  /** Prepares what lies beside the input in `folder`; the function it returns reads one input. */
  open(folder: string): Promise<(input: Uint8Array) => Promise<unknown>>;
  /** CPU seconds that one input may take (default: that of `defaultLimits`). */
  readonly seconds?: number;
}

/** What trying one input may take. */
export interface Limits {
  /** Seconds of CPU time. */
  readonly seconds: number;
  /** Seconds of waiting without CPU time, as on a child process. */
  readonly idleSeconds: number;
  /** Bytes of the process. */
  readonly memory: number;
}

export const defaultLimits: Limits = { seconds: 5, idleSeconds: 60, memory: 768 << 20 };

/** What an input must not do. */
export interface Fault {
  /** `error`: neither success nor an RmError; `crash`, `hang`, `memory`: of the process. */
  readonly kind: 'error' | 'crash' | 'hang' | 'memory';
  readonly message: string;
  /** Faults with the same key count as one. */
  readonly key: string;
}

/** How trying an input ended. */
export type Outcome = 'read' | 'refused' | Fault;

export const isFault = (outcome: Outcome): outcome is Fault => typeof outcome === 'object';

/** Loads a target from its module, which exports it as `target`. */
export const loadTarget = async (module: string): Promise<Target> =>
  ((await import(module)) as { target: Target }).target;

/** The input that a seed gives at an index. */
export function inputAt({ mutate }: Target, corpus: readonly Uint8Array[], random: Random): Uint8Array {
  let input = random.pick(corpus);
  do input = mutate(input, random);
  while (random.chance(0.35));
  return input;
}
