import {
  type Device,
  ensure,
  type LiveState,
  requireExactArithmetic,
  Scope,
  type StoredTensor,
  type Tensor,
  tensorFrom,
} from '../../engine/index.js';
import {
  addInto,
  crossGram,
  gram,
  matmul,
  quadraticLoss,
  rowTiles,
  scaleRows,
  solveRidgePath,
  symmetrize,
} from '../../kernels/index.js';
import { sumOfSquares } from '../activations/rowNorms.js';
import type { Sums as StoredSums } from '../statistics/statisticsStore.js';
import type { RidgePoint } from './ridgePath.js';

/** Sums over the tokens of one half of the documents; F features, R what they are to add to the layer's output. */
interface Sums {
  /** G = Fᵀ diag(w) F [inputs, inputs], its lower triangle until `solve` mirrors it. */
  readonly gram: Tensor;
  /** C = Fᵀ diag(w) R [inputs, outputs] */
  readonly cross: Tensor;
  /** What G and C lack of sums in 48 bits, where they are summed so. */
  readonly low?: { readonly gram: Tensor; readonly cross: Tensor };
  /** tr G */
  trace: number;
  /** sum of w |R|² */
  targetSquares: number;
}

export interface RidgeSolution {
  /** Delta [inputs, outputs] f32, from all tokens. The caller disposes it. */
  readonly delta: Tensor;
  /**
   * The ridge, as a share of the mean diagonal of G; of its own element of the diagonal where it is scaled. G is that of
   * the half it was chosen on, where it was chosen.
   */
  readonly ridge: number;
  /** Where it was measured: weighted |F Delta - R|² / |R|² on the held-out half, of the other half's Delta. */
  readonly heldOut?: number;
}

/** Shares of G's mean diagonal that are tried, large ones first: the loss has one minimum along them. */
export const RIDGES: readonly number[] = [3, 1, 0.3, 0.1, 0.03];

/**
 * Weighted normal equations of a ridge regression, (G + ridge mean(diag G) I) Delta = C, one set of sums for each half
 * of the documents. Plain f32: a ridge of a hundredth of the mean diagonal hides its rounding errors.
 * In 48 bits the sums round to the same f32 whatever the order of the batches, so that shards of them, added up, give
 * the same weights bit for bit: for what other sums depend on.
 */
export class RidgeStatistics implements LiveState {
  readonly #scope: Scope;
  readonly #halves: readonly [Sums, Sums];
  readonly #points: RidgePoint[] = [];

  constructor(
    private readonly device: Device,
    inputs: number,
    outputs: number,
    precision: 'f32' | '48 bits' = 'f32',
  ) {
    this.#scope = new Scope(device);
    const sums = (): Sums => {
      const gram = this.#scope.tensor([inputs, inputs], 'f32', 'Gram matrix');
      const cross = this.#scope.tensor([inputs, outputs], 'f32', 'cross products');
      device.recorder.clear(gram);
      device.recorder.clear(cross);
      const wide = { gram, cross, trace: 0, targetSquares: 0 };
      if (precision === 'f32') return wide;
      const low = {
        gram: this.#scope.tensor([inputs, inputs], 'f32', 'Gram matrix, low'),
        cross: this.#scope.tensor([inputs, outputs], 'f32', 'cross products, low'),
      };
      for (const tensor of Object.values(low)) device.recorder.clear(tensor);
      return { ...wide, low };
    };
    this.#halves = [sums(), sums()];
  }

  /** The ridges that `solve` has tried, large ones first; none where one was given. */
  get points(): readonly RidgePoint[] {
    return this.#points;
  }

  /** For a file of statistics; before `solve`, which adds the halves up. The tensors stay where they are. */
  get sums(): StoredSums {
    const [a, b] = this.#halves;
    return {
      tensors: { ...this.#tensors(0), ...this.#tensors(1) },
      numbers: {
        trace0: a.trace,
        targetSquares0: a.targetSquares,
        trace1: b.trace,
        targetSquares1: b.targetSquares,
      },
    };
  }

  #tensors(half: 0 | 1): Record<string, Tensor> {
    const { gram, cross, low } = this.#halves[half];
    if (!low) return { [`G ${half}`]: gram, [`C ${half}`]: cross };
    return {
      ...{ [`G ${half} hi`]: gram, [`G ${half} lo`]: low.gram },
      ...{ [`C ${half} hi`]: cross, [`C ${half} lo`]: low.cross },
    };
  }

  /** Takes the place of adding tokens: what `sums` of the same sizes has given. */
  recall({ tensors, numbers }: StoredSums): void {
    for (const [part, tensor] of Object.entries(this.sums.tensors)) {
      this.device.recorder.copy(tensors[part]!, tensor);
    }
    this.#numbersFromCache(numbers);
  }

  save(): unknown {
    return this.sums;
  }

  async restore(saved: {
    readonly tensors: Readonly<Record<string, StoredTensor>>;
    readonly numbers: StoredSums['numbers'];
  }): Promise<void> {
    for (const [part, tensor] of Object.entries(this.sums.tensors)) await saved.tensors[part]!.into(tensor);
    this.#numbersFromCache(saved.numbers);
  }

  #numbersFromCache(numbers: StoredSums['numbers']): void {
    for (const half of [0, 1] as const) {
      const sums = this.#halves[half];
      sums.trace = numbers[`trace${half}`]!;
      sums.targetSquares = numbers[`targetSquares${half}`]!;
    }
  }

  /** Adds tokens: features [T, inputs], residual [T, outputs], weights [T] of 0 or more; all f32. */
  async add(half: 0 | 1, features: Tensor, residual: Tensor, weights: Float32Array): Promise<void> {
    const { device } = this;
    const rec = device.recorder;
    const sums = this.#halves[half];
    using scope = new Scope(device);
    const roots = scope.own(tensorFrom(device, weights.map(Math.sqrt)));
    const scaled = (x: Tensor, first = 0, columns = x.columns) => {
      const out = scope.tensor([x.rowCount, columns], 'f32', `weighted ${x.label}`);
      scaleRows(rec, x, roots, out, first);
      return out;
    };
    const [x, y] = [scaled(features), scaled(residual)];
    const addProducts = (right: Tensor, sum: Tensor) => {
      // A sum larger than a binding is made by rows, from as many columns of the features.
      for (const { start, tensor } of rowTiles(sum)) {
        const left = tensor.rowCount === x.columns ? x : scaled(features, start, tensor.rowCount);
        const lower = left === right;
        matmul(rec, left, right, tensor, { transposeA: true, accumulate: true, lower });
      }
    };
    if (sums.low) {
      await requireExactArithmetic(device);
      gram(rec, x, undefined, { hi: sums.gram, lo: sums.low.gram });
      crossGram(rec, x, y, undefined, { hi: sums.cross, lo: sums.low.cross });
    } else {
      addProducts(x, sums.gram);
      addProducts(y, sums.cross);
    }
    sums.trace += await sumOfSquares(x);
    sums.targetSquares += await sumOfSquares(y);
  }

  /**
   * Delta with a given ridge, or with the one that fits the held-out half best; undefined where none does better there
   * than no change at all.
   *
   * @throws RmError NOT_POSITIVE_DEFINITE, NOT_FINITE; INVALID_ARGUMENT where a ridge is to be chosen and one half is empty.
   */
  async solve(
    ridge?: number,
    { scaled = false }: { scaled?: boolean | undefined } = {},
  ): Promise<RidgeSolution | undefined> {
    const [fitted, held] = this.#halves;
    ensure(
      ridge !== undefined || (fitted.trace > 0 && held.trace > 0),
      'all calibration tokens are in one half, none are left to choose the ridge by',
      'Calibrate with several documents.',
    );
    for (const { gram } of this.#halves) symmetrize(this.device.recorder, gram);
    const found = ridge === undefined ? await this.#chooseRidge(fitted, held, scaled) : { ridge };
    if (!found) return undefined;
    // The halves are not needed apart any more.
    addInto(this.device.recorder, fitted.gram, held.gram);
    addInto(this.device.recorder, fitted.cross, held.cross);
    const all = fitted.trace + held.trace;
    const unit = scaled ? 1 : all / fitted.gram.columns;
    // A ridge stands for what is known beside the tokens, so it does not grow with them: what was chosen on one half
    // stays the same number, and is a smaller share of the diagonal of both.
    const share = ridge === undefined ? fitted.trace / all : 1;
    const { gram, cross } = fitted;
    for await (const { x } of solveRidgePath(this.device, gram, cross, [unit * share * found.ridge], {
      scaled,
    })) {
      return { delta: x, ...found };
    }
    throw new Error('a path of one ridge has one solution');
  }

  async #chooseRidge(
    fitted: Sums,
    held: Sums,
    scaled: boolean,
  ): Promise<{ ridge: number; heldOut: number } | undefined> {
    const unit = scaled ? 1 : fitted.trace / fitted.gram.columns;
    let best = { ridge: Number.POSITIVE_INFINITY, heldOut: 1 };
    let next = 0;
    const shifts = RIDGES.map(share => share * unit);
    for await (const { x } of solveRidgePath(this.device, fitted.gram, fitted.cross, shifts, { scaled })) {
      using _ = x;
      const ridge = RIDGES[next++]!;
      const loss = await quadraticLoss(this.device, held.gram, held.cross, x);
      const heldOut = 1 + loss / held.targetSquares;
      this.#points.push({ ridge, heldOut });
      if (heldOut < best.heldOut) best = { ridge, heldOut };
      else if (Number.isFinite(best.ridge)) break;
    }
    return Number.isFinite(best.ridge) ? best : undefined;
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }
}
