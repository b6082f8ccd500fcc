import {
  type Device,
  downloadF32,
  ensure,
  LaterDownloads,
  type LiveState,
  requireExactArithmetic,
  Scope,
  type StoredTensor,
  Tensor,
  tensorFrom,
} from '../../engine/index.js';
import {
  addInto,
  addTransposed,
  crossGram,
  gram,
  largeProduct,
  matmul,
  quadraticLoss,
  rowDots,
  rowTiles,
  scaleRows,
  solveRidgePath,
  symmetrize,
} from '../../kernels/index.js';
import { rowNormsOf, sumOfSquares } from '../activations/rowOperations.js';
import type { Sums as StoredSums } from '../statistics/statisticsStore.js';
import { type ChannelSums, gainLoss } from './fitGains.js';
import type { RidgePoint } from './ridgePath.js';

/** Sums over the tokens of one half of the documents; F features, R what they should add to the layer's output. */
interface Sums {
  /** G = Fᵀ diag(w) F [inputs, inputs]; only its lower triangle until `solve` mirrors it. */
  readonly gram: Tensor;
  /** C = Fᵀ diag(w) R [inputs, outputs] */
  readonly cross: Tensor;
  /** The low parts of G and C when they are summed in 48 bits. */
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
   * The ridge as a share of the mean diagonal of G, or of each element of the diagonal when it is scaled. A chosen ridge
   * refers to the G of the half that it was chosen on.
   */
  readonly ridge: number;
  /** When held-out tokens chose the ridge: weighted |F Delta - R|² / |R|² on the held-out half, Delta of the other half. */
  readonly heldOut?: number;
}

/** Shares of G's mean diagonal to try, largest first: along them the loss has one minimum. */
export const RIDGES: readonly number[] = [3, 1, 0.3, 0.1, 0.03];

/**
 * Weighted normal equations of a ridge regression, (G + ridge mean(diag G) I) Delta = C, with one set of sums for each
 * half of the documents. Plain f32 suffices for a fit: a ridge of a hundredth of the mean diagonal hides its rounding
 * errors. Sums in 48 bits round to the same f32 in any order of the batches, so that shards add up to the same weights
 * bit for bit; a fit on which other sums depend needs them.
 */
export class RidgeStatistics implements LiveState {
  readonly #scope: Scope;
  readonly #halves: readonly [Sums, Sums];
  readonly #points: RidgePoint[] = [];
  /** Norms for the traces and squares of `#halves`. */
  readonly #later: LaterDownloads;

  constructor(
    private readonly device: Device,
    inputs: number,
    outputs: number,
    precision: 'f32' | '48 bits' = 'f32',
  ) {
    this.#scope = new Scope(device);
    this.#later = new LaterDownloads(device);
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

  /** The ridges that `solve` tried, largest first; none when a ridge was given. */
  get points(): readonly RidgePoint[] {
    return this.#points;
  }

  /** The sums for a statistics file; they keep their tensors. Read them before `solve`, which adds up the halves. */
  async sums(): Promise<StoredSums> {
    await this.#later.arrive();
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

  arrive(): Promise<void> {
    return this.#later.arrive();
  }

  save(): Promise<StoredSums> {
    return this.sums();
  }

  /** Takes over the `sums` of an earlier run, of the same sizes: those of a checkpoint or of a statistics file. */
  async restore({
    tensors,
    numbers,
  }: {
    readonly tensors: Readonly<Record<string, Tensor | StoredTensor>>;
    readonly numbers: StoredSums['numbers'];
  }): Promise<void> {
    for (const [part, tensor] of Object.entries({ ...this.#tensors(0), ...this.#tensors(1) })) {
      const earlier = tensors[part]!;
      if (earlier instanceof Tensor) this.device.recorder.copy(earlier, tensor);
      else await earlier.into(tensor);
    }
    for (const half of [0, 1] as const) {
      const sums = this.#halves[half];
      sums.trace = numbers[`trace${half}`]!;
      sums.targetSquares = numbers[`targetSquares${half}`]!;
    }
  }

  /** Adds tokens: features [T, inputs], residual [T, outputs], square roots of their weights [T]; all f32. */
  async add(half: 0 | 1, features: Tensor, residual: Tensor, roots: Tensor): Promise<void> {
    const { device } = this;
    const rec = device.recorder;
    const sums = this.#halves[half];
    using scope = new Scope(device);
    const scaled = (x: Tensor, first = 0, columns = x.columns) => {
      const out = scope.tensor([x.rowCount, columns], 'f32', `weighted ${x.label}`);
      scaleRows(rec, x, roots, out, first);
      return out;
    };
    const [x, y] = [scaled(features), scaled(residual)];
    const addProducts = (right: Tensor, sum: Tensor) => {
      // A sum larger than a binding is computed by rows, from as many columns of the features.
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
    await this.#later.readF32([rowNormsOf(x), rowNormsOf(y)], ([ofX, ofY]) => {
      sums.trace += sumOfSquares(ofX!);
      sums.targetSquares += sumOfSquares(ofY!);
    });
  }

  /**
   * For features F of a projection W with a gain behind it: turns targets D into what g * (W F) lacks of them. W is
   * [outputs, inputs] f32; `choose` gets both halves' sums by output channel and returns g [outputs].
   *
   * @returns the sum of w |D - g * (W F)|² of each half.
   */
  async subtractOutputs(
    weight: Tensor,
    choose: (halves: readonly [ChannelSums, ChannelSums]) => Promise<Float32Array>,
  ): Promise<[number, number]> {
    await this.#later.arrive();
    const { device } = this;
    const rec = device.recorder;
    using scope = new Scope(device);
    const products: Tensor[] = [];
    const channels: ChannelSums[] = [];
    for (const { gram, cross, targetSquares } of this.#halves) {
      symmetrize(rec, gram);
      const product = scope.tensor(weight.shape, 'f32', 'W G');
      largeProduct(rec, weight, gram, product);
      products.push(product);
      const squares = await dotsWithRows(weight, product);
      channels.push({ targetSquares, cross: await dotsWithColumns(weight, cross), squares });
    }
    const gains = await choose([channels[0]!, channels[1]!]);
    const negative = scope.own(
      tensorFrom(
        device,
        gains.map(gain => -gain),
      ),
    );
    for (const [half, sums] of this.#halves.entries()) {
      const scaled = scope.tensor(weight.shape, 'f32', 'g W G');
      scaleRows(rec, products[half]!, negative, scaled);
      addTransposed(rec, scaled, 1, sums.cross);
      sums.targetSquares = gainLoss(channels[half]!, gains);
    }
    return [this.#halves[0].targetSquares, this.#halves[1].targetSquares];
  }

  /**
   * Delta with the given ridge, or with the one that fits the held-out half best; undefined when no ridge beats no change
   * there, or all features are zero.
   *
   * @throws RmError NOT_POSITIVE_DEFINITE, NOT_FINITE; INVALID_ARGUMENT when no ridge is given and one half is empty.
   */
  async solve(
    ridge?: number,
    { scaled = false, ridges = RIDGES }: { scaled?: boolean | undefined; ridges?: readonly number[] } = {},
  ): Promise<RidgeSolution | undefined> {
    await this.#later.arrive();
    // Features that are zero everywhere explain nothing.
    if (this.isEmpty) return undefined;
    ensure(
      ridge !== undefined || this.hasHalves,
      'all calibration tokens are in one half, so none are held out to choose the ridge',
      'Calibrate with several documents.',
    );
    const choice = ridge === undefined ? await this.#chooseRidge(scaled, ridges) : { ridge };
    return (
      choice && {
        delta: await this.solveAll(choice.ridge, { scaled, isChosen: ridge === undefined }),
        ...choice,
      }
    );
  }

  /** Whether all features are zero; known after `arrive`. */
  get isEmpty(): boolean {
    return this.#halves.every(({ trace }) => trace === 0);
  }

  /** Whether there are tokens to fit to and tokens that are held out; known after `arrive`. */
  get hasHalves(): boolean {
    return this.#halves.every(({ trace }) => trace > 0);
  }

  /** The sum of w |R|² over the held-out half; known after `arrive`. */
  get heldOutSquares(): number {
    return this.#halves[1].targetSquares;
  }

  /** Fits ridges to one half, and yields for each the loss of the held-out half, over its loss without a change. */
  async *heldOutLosses(ridges: readonly number[], scaled: boolean): AsyncGenerator<RidgePoint> {
    this.#mirror();
    const [fitted, heldOut] = this.#halves;
    const unit = scaled ? 1 : fitted.trace / fitted.gram.columns;
    const shifts = ridges.map(share => share * unit);
    let next = 0;
    for await (const { x } of solveRidgePath(this.device, fitted.gram, fitted.cross, shifts, { scaled })) {
      using _ = x;
      const loss = await quadraticLoss(this.device, heldOut.gram, heldOut.cross, x);
      yield { ridge: ridges[next++]!, heldOut: 1 + loss / heldOut.targetSquares };
    }
  }

  /**
   * Delta from the tokens of both halves. It adds the halves up: no other fit is possible afterwards.
   *
   * @param options `isChosen`: `heldOutLosses` chose the ridge.
   */
  async solveAll(
    ridge: number,
    { scaled, isChosen }: { readonly scaled: boolean; readonly isChosen: boolean },
  ): Promise<Tensor> {
    this.#mirror();
    const [sum, other] = this.#halves;
    addInto(this.device.recorder, sum.gram, other.gram);
    addInto(this.device.recorder, sum.cross, other.cross);
    const all = sum.trace + other.trace;
    const unit = scaled ? 1 : all / sum.gram.columns;
    // A ridge expresses knowledge besides the tokens, so it does not grow with them: a ridge chosen on one half stays the
    // same number, and is a smaller share of both halves' diagonal.
    const share = isChosen ? sum.trace / all : 1;
    for await (const { x } of solveRidgePath(this.device, sum.gram, sum.cross, [unit * share * ridge], {
      scaled,
    })) {
      return x;
    }
    throw new Error('a path of one ridge has one solution');
  }

  /** Only the lower triangles are summed. */
  #mirror(): void {
    for (const { gram } of this.#halves) symmetrize(this.device.recorder, gram);
  }

  async #chooseRidge(
    scaled: boolean,
    ridges: readonly number[],
  ): Promise<{ ridge: number; heldOut: number } | undefined> {
    let best: RidgePoint | undefined;
    for await (const point of this.heldOutLosses(ridges, scaled)) {
      this.#points.push(point);
      if (point.heldOut < (best?.heldOut ?? 1)) best = point;
      else if (best) break;
    }
    return best && { ...best };
  }

  [Symbol.dispose](): void {
    this.#later[Symbol.dispose]();
    this.#scope.dispose();
  }
}

/** Sums over the rows of a times those of b, both [N, M] f32. */
async function dotsWithRows(a: Tensor, b: Tensor): Promise<Float32Array> {
  using out = Tensor.create(a.device, [a.rowCount]);
  rowDots(a.device.recorder, a, b, out);
  return await downloadF32(out);
}

/** Sums over the rows of a [N, M] times the columns of b [M, N]. */
async function dotsWithColumns(a: Tensor, b: Tensor): Promise<Float32Array> {
  using transposed = Tensor.create(a.device, a.shape, 'f32', 'transposed');
  a.device.recorder.clear(transposed);
  addTransposed(a.device.recorder, b, 1, transposed);
  return await dotsWithRows(a, transposed);
}
