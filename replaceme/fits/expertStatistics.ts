import {
  asU32,
  type Device,
  download,
  type LiveState,
  Scope,
  type StoredTensor,
  type Tensor,
} from '../../engine/index.js';
import { gatherRows, map, reduce } from '../../kernels/index.js';
import type { MlpFeatures, RoutedFeatures } from '../../model/index.js';
import { scaledRows } from '../activations/rowOperations.js';
import { ofExpert } from '../statistics/expertSums.js';
import type { Sums } from '../statistics/statisticsStore.js';
import type { RidgePoint } from './ridgePath.js';
import { RIDGES, RidgeStatistics } from './ridgeStatistics.js';

/** The experts of a layer as a fit needs them. */
export interface ExpertSizes {
  readonly count: number;
  /** Features of an expert, and of the shared one (0: there is none). */
  readonly features: number;
  readonly shared: number;
  readonly hidden: number;
}

export interface ExpertsSolution {
  /** Delta [features, hidden] f32 of each expert; undefined for those that keep their weights. The caller disposes them. */
  readonly deltas: readonly (Tensor | undefined)[];
  readonly shared: Tensor | undefined;
  readonly ridge: number;
  /** Of all experts together; see RidgeSolution. */
  readonly heldOut?: number;
}

/** The least share of an expert in a token that counts. */
const LEAST_SHARE = 1e-6;

/**
 * Ridge regressions of a layer's experts, each with sums of its own tokens: the Gram matrix of all is taken to be
 * block-diagonal. A token shares what is missing, R, among its experts by their weights w: expert e should add w / s R, s the
 * sum of the token's weights, and its regression counts the token s / w times. By convexity the sum of these losses is no less
 * than the loss of all experts together, and the same where nothing changes: a change that lowers it does so for the layer.
 * All experts have one ridge, as a share of their own mean diagonal, which the held-out half chooses; an expert to whose
 * held-out tokens it does no good keeps its weights. Source: our own; separable surrogates as in Lange and Fessler, 1995.
 */
export class ExpertStatistics implements LiveState {
  /** Of all experts, the shared one last. */
  readonly #parts: readonly RidgeStatistics[];
  #points: readonly RidgePoint[] = [];

  constructor(
    private readonly device: Device,
    private readonly sizes: ExpertSizes,
  ) {
    const { count, features, shared, hidden } = sizes;
    const widths = [...new Array<number>(count).fill(features), ...(shared > 0 ? [shared] : [])];
    this.#parts = widths.map(width => new RidgeStatistics(device, width, hidden));
  }

  /** The ridges that `solve` tried, with the losses of all experts together. */
  get points(): readonly RidgePoint[] {
    return this.#points;
  }

  async arrive(): Promise<void> {
    for (const part of this.#parts) await part.arrive();
  }

  /** The sums for a statistics file, as RidgeStatistics.sums. */
  async sums(): Promise<Sums> {
    const tensors: Record<string, Tensor> = {};
    const numbers: Record<string, number> = {};
    for (const [e, part] of this.#parts.entries()) {
      const sums = await part.sums();
      const suffix = ofExpert(e, this.sizes.count);
      for (const [name, tensor] of Object.entries(sums.tensors)) tensors[name + suffix] = tensor;
      for (const [name, number] of Object.entries(sums.numbers)) numbers[name + suffix] = number;
    }
    return { tensors, numbers };
  }

  save(): Promise<Sums> {
    return this.sums();
  }

  async restore({
    tensors,
    numbers,
  }: {
    readonly tensors: Readonly<Record<string, Tensor | StoredTensor>>;
    readonly numbers: Sums['numbers'];
  }): Promise<void> {
    for (const [e, part] of this.#parts.entries()) {
      const suffix = ofExpert(e, this.sizes.count);
      const own = <T>(all: Readonly<Record<string, T>>) =>
        Object.fromEntries(
          Object.entries(all)
            .filter(([name]) => name.endsWith(suffix))
            .map(([name, value]) => [name.slice(0, -suffix.length), value]),
        );
      await part.restore({ tensors: own(tensors), numbers: own(numbers) });
    }
  }

  /** Adds tokens: their features, residual [T, hidden] and square roots of their weights [T]; f32. */
  async add(half: 0 | 1, features: MlpFeatures, residual: Tensor, roots: Tensor): Promise<void> {
    const { dense, share, routed } = features;
    const { count } = this.sizes;
    const rec = this.device.recorder;
    using scope = new Scope(this.device);
    const totals = scope.tensor([residual.rowCount, 1], 'f32', 'weights of tokens');
    reduce(rec, 'sum', routed!.weights, totals);
    if (share) map(rec, 'a + b', { a: totals, b: share }, totals);
    if (dense && share) {
      const shares = sharesOf(scope, share, totals, roots.reshape(totals.shape));
      await this.#parts[count]!.add(half, dense, scaledRows(scope, residual, shares.shares), shares.roots);
    }
    await this.#addRouted(half, routed!, residual, totals, roots);
  }

  async #addRouted(
    half: 0 | 1,
    routed: RoutedFeatures,
    residual: Tensor,
    totals: Tensor,
    roots: Tensor,
  ): Promise<void> {
    const rec = this.device.recorder;
    using scope = new Scope(this.device);
    const { tokens, factors, features } = routed;
    const ofRows = (x: Tensor) => {
      const out = scope.tensor([tokens.size, 1], 'f32', x.label);
      gatherRows(rec, x.reshape([x.size, 1]), tokens, out);
      return out;
    };
    const all = sharesOf(scope, factors.reshape([tokens.size, 1]), ofRows(totals), ofRows(roots));
    const begins = asU32(await download(routed.begins));
    for (let e = 0; e < this.sizes.count; e++) {
      const first = begins[e]!;
      const rows = begins[e + 1]! - first;
      if (rows === 0) continue;
      using own = new Scope(this.device);
      // Views of so few rows may begin where no binding can.
      const some = (x: Tensor) => {
        const out = own.tensor([rows, ...x.shape.slice(1)], x.dtype, x.label);
        rec.copy(x.rows(first, rows), out);
        return out;
      };
      const missing = own.tensor([rows, residual.columns], 'f32', 'what an expert lacks');
      gatherRows(rec, residual, some(tokens), missing);
      const weighted = scaledRows(own, some(features), some(factors));
      const targets = scaledRows(own, missing, some(all.shares));
      await this.#parts[e]!.add(half, weighted, targets, some(all.roots));
    }
  }

  /** Deltas with the given ridge, or with the one that fits the held-out half best; undefined where none does any good. */
  async solve(
    ridge?: number,
    { scaled = false }: { scaled?: boolean | undefined } = {},
  ): Promise<ExpertsSolution | undefined> {
    await this.arrive();
    const fitted =
      ridge === undefined
        ? await this.#chooseRidge(scaled)
        : { ridge, parts: this.#parts.map(part => !part.isEmpty) };
    if (!fitted?.parts.includes(true)) return undefined;
    using scope = new Scope(this.device);
    const deltas: (Tensor | undefined)[] = [];
    for (const [e, part] of this.#parts.entries()) {
      const options = { scaled, isChosen: ridge === undefined };
      deltas.push(fitted.parts[e] ? scope.own(await part.solveAll(fitted.ridge, options)) : undefined);
    }
    scope.releaseAll();
    const { parts, ...choice } = fitted;
    return { deltas: deltas.slice(0, this.sizes.count), shared: deltas[this.sizes.count], ...choice };
  }

  /** The ridge that is best for all experts together, and whether it is better than no change for each. */
  async #chooseRidge(
    scaled: boolean,
  ): Promise<{ ridge: number; heldOut: number; parts: boolean[] } | undefined> {
    const squares = this.#parts.reduce((sum, part) => sum + part.heldOutSquares, 0);
    const losses: (number[] | undefined)[] = [];
    for (const part of this.#parts) {
      const own: number[] = [];
      if (part.hasHalves) {
        for await (const { heldOut } of part.heldOutLosses(RIDGES, scaled)) own.push(heldOut);
      }
      losses.push(part.hasHalves ? own : undefined);
    }
    this.#points = RIDGES.map((ridge, r) => ({
      ridge,
      heldOut:
        this.#parts.reduce(
          (sum, part, e) => sum + part.heldOutSquares * Math.min(1, losses[e]?.[r] ?? 1),
          0,
        ) / squares,
    }));
    const best = this.#points.reduce((a, b) => (b.heldOut < a.heldOut ? b : a));
    if (!(best.heldOut < 1)) return undefined;
    const r = this.#points.indexOf(best);
    return { ...best, parts: losses.map(own => own !== undefined && own[r]! < 1) };
  }

  [Symbol.dispose](): void {
    for (const part of this.#parts) part[Symbol.dispose]();
  }
}

/** What part of what is missing falls to an expert, and by what root the row then counts; weights, totals, roots [N, 1]. */
function sharesOf(
  scope: Scope,
  weights: Tensor,
  totals: Tensor,
  roots: Tensor,
): { readonly shares: Tensor; readonly roots: Tensor } {
  const rec = scope.device.recorder;
  const shares = scope.tensor([weights.size, 1], 'f32', 'shares of experts');
  map(rec, 'max(weights / totals, least)', { weights, totals, least: LEAST_SHARE }, shares);
  const counted = scope.tensor([weights.size, 1], 'f32', 'roots of weights');
  map(rec, 'roots * rsqrt(shares)', { roots, shares }, counted);
  return { shares: shares.reshape([weights.size]), roots: counted.reshape([weights.size]) };
}
