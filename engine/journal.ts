import type { DType } from './dtype.js';
import type { Tensor } from './tensor.js';

/** A tensor that was kept: its bytes come to the device when they are wanted. */
export interface StoredTensor {
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** A new tensor, the caller's. */
  load(): Promise<Tensor>;
  /** Puts the values into a tensor of the same shape. */
  into(tensor: Tensor): Promise<void>;
}

/**
 * Something that changes while work is going on. What `save` gives may hold numbers, strings, arrays, plain objects,
 * Maps, typed arrays and tensors; `restore` gets the same with a `StoredTensor` for every tensor.
 */
export interface LiveState {
  /** What it is now, as plain data and tensors. */
  save(): unknown;
  /** Takes up what `save` gave, perhaps in another process. */
  restore(saved: never): Promise<void> | void;
}

/**
 * What a long run has done, so that another process can go on from there. The work must be deterministic: a run that
 * goes on takes the same way from the beginning, is given what is done and computes the rest. Names need only tell
 * what it is about; the same name again is another piece of work.
 */
export interface Journal {
  /**
   * A piece of work with a result (as `LiveState` may save it), which an earlier process may have done: then `compute` is
   * not called. Tensors in the result are the caller's. What happens to live states meanwhile must be all else that it
   * does.
   */
  step<T>(name: string, compute: () => Promise<T>): Promise<T>;
  /**
   * `visit` for 0 .. count-1, one after the other, from the first that no earlier process has done. Behind each of them
   * the run may be taken up again, with all live states as they are then. `after` is told of each that is behind it.
   *
   * @throws the reason of the run's signal where that is aborted.
   */
  forEach(
    name: string,
    count: number,
    visit: (index: number) => Promise<void>,
    after?: (index: number) => void,
  ): Promise<void>;
  /** Declares a live state, until the result is disposed; it is as an earlier process has left it from then on. */
  track(name: string, state: LiveState): Promise<Disposable>;
}

const held: Disposable = { [Symbol.dispose]: () => {} };

/** Keeps nothing. */
export const noJournal: Journal = {
  step: (_, compute) => compute(),
  async forEach(_, count, visit, after) {
    for (let index = 0; index < count; index++) {
      await visit(index);
      after?.(index);
    }
  },
  track: () => Promise.resolve(held),
};

/** Sums that change: tensors of fixed shape in place, and what else is in the fields of an object. */
export function liveSums(tensors: Readonly<Record<string, Tensor>>, numbers: object = {}): LiveState {
  return {
    save: () => ({ tensors, numbers }),
    async restore(saved: { tensors: Readonly<Record<string, StoredTensor>>; numbers: object }) {
      for (const [name, tensor] of Object.entries(tensors)) await saved.tensors[name]!.into(tensor);
      Object.assign(numbers, saved.numbers);
    },
  };
}
