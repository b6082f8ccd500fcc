import type { DType } from './dtype.js';
import type { Tensor } from './tensor.js';

/** A stored tensor, whose bytes stay off the device until `load` or `into` is called. */
export interface StoredTensor {
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** Returns a new tensor with the values; the caller owns it. */
  load(): Promise<Tensor>;
  /** Copies the values into a tensor of the same shape. */
  into(tensor: Tensor): Promise<void>;
}

/**
 * State that changes while work is going on. `save` may return numbers, strings, arrays, plain objects, Maps, typed
 * arrays and tensors; `restore` receives the same with a `StoredTensor` in place of each tensor.
 */
export interface LiveState {
  /** Waits for what belongs to the state and is still on its way; called for all states before any is saved. */
  arrive?(): Promise<void>;
  /** Returns the present state as plain data and tensors, or a promise of it. */
  save(): unknown;
  /** Restores a saved state, perhaps in another process. */
  restore(saved: never): Promise<void> | void;
}

/**
 * Records what a long run has done, so that another process can resume it. The work must be deterministic: a resumed run
 * replays the same path from the beginning, and finished steps return their stored results. Names only describe the
 * work; using a name again starts another piece of work.
 */
export interface Journal {
  /**
   * Runs `compute` and stores its result, or returns the result that an earlier process stored. The result may hold what
   * `LiveState.save` may hold; the caller owns its tensors. `compute` must have no other effect than on tracked states.
   */
  step<T>(name: string, compute: () => Promise<T>): Promise<T>;
  /**
   * Calls `visit` for 0 .. count-1 in order, starting after the last index that an earlier process finished. A run can be
   * resumed after each index, with all tracked states as they were then. Calls `after` for every finished index.
   *
   * @throws the reason of the run's signal if it is aborted.
   */
  forEach(
    name: string,
    count: number,
    visit: (index: number) => Promise<void>,
    after?: (index: number) => void,
  ): Promise<void>;
  /** Tracks a state until the result is disposed, and first restores it if an earlier process saved it. */
  track(name: string, state: LiveState): Promise<Disposable>;
}

const untracked: Disposable = { [Symbol.dispose]: () => {} };

/** A journal that stores nothing. */
export const noJournal: Journal = {
  step: (_, compute) => compute(),
  async forEach(_, count, visit, after) {
    for (let index = 0; index < count; index++) {
      await visit(index);
      after?.(index);
    }
  },
  track: () => Promise.resolve(untracked),
};

/** The live state of running sums: tensors of fixed shape, restored in place, and the fields of `numbers`. */
export function liveSums(tensors: Readonly<Record<string, Tensor>>, numbers: object = {}): LiveState {
  return {
    save: () => ({ tensors, numbers }),
    async restore(saved: { tensors: Readonly<Record<string, StoredTensor>>; numbers: object }) {
      for (const [name, tensor] of Object.entries(tensors)) await saved.tensors[name]!.into(tensor);
      Object.assign(numbers, saved.numbers);
    },
  };
}
