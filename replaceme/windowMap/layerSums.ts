import { Scope, type StoredTensor, Tensor } from '../../engine/index.js';
import {
  addTransposed,
  axpy,
  downloadDiagonal,
  quadraticLosses,
  solveRidgePath,
} from '../../kernels/index.js';
import type { Model } from '../../model/index.js';
import { notFinite } from './windowDistances.js';
import type { WindowMeasure } from './windowMeasures.js';

/** Ridges as shares of the Gram matrix's mean diagonal, largest first; a coarse path suffices to rank windows. */
export const MAP_RIDGES: readonly number[] = [1, 0.1, 0.01];

/** Sums for one layer that stays and one half of the documents; M and L of every token are scaled by sqrt(w). */
interface HalfSums {
  /** G = MᵀM [hidden, hidden] */
  readonly gram: Tensor;
  /** P Lᵀ M for L of this layer and of the following ones [(targets + 1) * rows, hidden] */
  readonly products: Tensor;
}

/** Bytes of the sums of a layer with `targets` windows. */
export const sumsBytes = (hidden: number, targets: number, rows: number): number =>
  2 * 4 * hidden * (hidden + (targets + 1) * rows);

/** Bytes that solving for the maps takes besides the sums: both halves' C, a solution, its product, and the factor. */
export const solvingBytes = (hidden: number, targets: number, rows: number): number =>
  4 * hidden * (2 * hidden + 5 * targets * rows);

const numberNames = ['cosine', 'projected', 'changes', 'outputs'] as const;

interface SavedLayer {
  readonly measures?: readonly WindowMeasure[];
  readonly halves?: readonly { readonly gram: StoredTensor; readonly products: StoredTensor }[];
  readonly numbers?: Readonly<Record<(typeof numberNames)[number], Float64Array>>;
}

/** Sums over all tokens for one layer that stays, and the measures of its windows that follow from them. */
export class LayerSums {
  /** Number of windows: the longest removes the layers up to layer + targets. */
  readonly targets: number;
  readonly halves: readonly [HalfSums, HalfSums];
  /** Indexed by count - 1, like the next three: |P (L_j - L_i)|² over the held-out half. */
  readonly projected: Float64Array;
  /** Cosine distances over all tokens; |L_j - L_i|² and |L_j|² over the held-out half. */
  readonly cosine: Float64Array;
  readonly changes: Float64Array;
  readonly outputs: Float64Array;
  /** Empty until `solve`, which disposes the sums. */
  readonly measures: WindowMeasure[] = [];
  readonly #scope: Scope;

  constructor(
    private readonly model: Model,
    readonly layer: number,
    longest: number,
    private readonly rows: number,
  ) {
    const { device, arch } = model;
    this.targets = Math.min(longest, arch.layers - 1 - layer);
    this.#scope = new Scope(device);
    const zeros = (count: number, label: string) => {
      const tensor = this.#scope.tensor([count, arch.hidden], 'f32', label);
      device.recorder.clear(tensor);
      return tensor;
    };
    const sums = (): HalfSums => ({
      gram: zeros(arch.hidden, 'Gram matrix'),
      products: zeros((this.targets + 1) * rows, 'products'),
    });
    try {
      this.halves = [sums(), sums()];
    } catch (error) {
      this.dispose();
      throw error;
    }
    const numbers = () => new Float64Array(this.targets);
    [this.projected, this.cosine, this.changes, this.outputs] = [numbers(), numbers(), numbers(), numbers()];
  }

  save(): unknown {
    const { measures, halves, cosine, projected, changes, outputs } = this;
    return measures.length > 0 ? { measures } : { halves, numbers: { cosine, projected, changes, outputs } };
  }

  async restore({ measures = [], halves = [], numbers }: SavedLayer): Promise<void> {
    this.measures.push(...measures);
    if (measures.length > 0) this.dispose();
    for (const [half, { gram, products }] of halves.entries()) {
      await gram.into(this.halves[half]!.gram);
      await products.into(this.halves[half]!.products);
    }
    for (const name of numberNames) this[name].set(numbers?.[name] ?? this[name]);
  }

  /**
   * Adds the cosine distances of a batch between this layer's outputs and those of layer + n + 1, and the exact squares
   * that follow from distances and norms.
   *
   * @param weights w of every token; tokens of half 0 count only in the distances.
   * @throws RmError NOT_FINITE.
   */
  addDistances(
    n: number,
    half: 0 | 1,
    distances: Float32Array,
    [from, to]: readonly [Float32Array, Float32Array],
    weights: Float64Array,
  ): void {
    for (const [t, distance] of distances.entries()) {
      this.cosine[n]! += distance;
      if (half === 0) continue;
      const [a, b] = [from[t]!, to[t]!];
      this.changes[n]! += weights[t]! * ((a - b) ** 2 + 2 * a * b * distance);
      this.outputs[n]! += weights[t]! * b * b;
    }
    if (!Number.isFinite(this.cosine[n])) throw notFinite(this.layer, this.layer + n + 1);
  }

  /** Solves for the maps over `tokens` tokens, which uses up the sums. */
  async solve(tokens: number): Promise<void> {
    using _section = this.model.device.section('solve');
    for (const [n, loss] of (await this.#losses()).entries()) {
      const projected = this.projected[n]!;
      const unexplained = projected > 0 ? Math.max(0, 1 + Math.min(0, loss) / projected) : 1;
      const moved = this.outputs[n]! > 0 ? this.changes[n]! / this.outputs[n]! : 0;
      const cosine = this.cosine[n]! / tokens;
      const { layer } = this;
      this.measures.push({ layer, count: n + 1, cosine, residual: unexplained * moved, unexplained });
    }
    this.dispose();
  }

  /** By count - 1: the change of |P (L_j - L_i)|² on the held-out half under the best ridge. */
  async #losses(): Promise<number[]> {
    const { targets, halves, rows } = this;
    const { device, arch } = this.model;
    const rec = device.recorder;
    using scope = new Scope(device);
    /** C = Mᵀ (L_j - L_i) Pᵀ, all j side by side [hidden, targets * rows]. */
    const crosses = halves.map(({ products }) => {
      using own = Tensor.create(device, [rows, arch.hidden], 'f32', 'products');
      rec.copy(products.rows(0, rows), own);
      for (let n = 1; n <= targets; n++) axpy(rec, -1, own, products.rows(n * rows, rows));
      const cross = scope.tensor([arch.hidden, targets * rows], 'f32', 'cross products');
      rec.clear(cross);
      addTransposed(rec, products.rows(rows, targets * rows), 1, cross);
      return cross;
    });
    const best = new Array<number>(targets).fill(Number.POSITIVE_INFINITY);
    const [fitted, heldOut] = halves;
    const diagonal = await downloadDiagonal(rec, fitted.gram);
    const mean = diagonal.reduce((sum, value) => sum + value, 0) / arch.hidden;
    const shifts = mean > 0 ? MAP_RIDGES.map(share => share * mean) : [];
    for await (const { x } of solveRidgePath(device, fitted.gram, crosses[0]!, shifts)) {
      using _ = x;
      const losses = await quadraticLosses(device, heldOut.gram, crosses[1]!, x, targets);
      for (const [n, loss] of losses.entries()) best[n] = Math.min(best[n]!, loss);
    }
    return best;
  }

  dispose(): void {
    this.#scope.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Each token's weight, as `tokenRoots` has it: `weight` over the token's largest norm in any layer. */
export function tokenWeights(norms: readonly Float32Array[], weight: number): Float64Array {
  return Float64Array.from({ length: norms[0]!.length }, (_, t) => {
    const largest = Math.max(...norms.map(of => of[t]!));
    return largest > 0 ? weight / largest : 0;
  });
}

/** Adds squared norms to `sums`: the first `each` to the first sum, the next to the second, ... */
export function addSquares(norms: Float32Array, each: number, sums: Float64Array): void {
  for (const [at, norm] of norms.entries()) sums[Math.floor(at / each)]! += norm * norm;
}
