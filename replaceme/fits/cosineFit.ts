import {
  asF32,
  type Device,
  downloadTogether,
  ensure,
  liveSums,
  noJournal,
  OneAhead,
  RmError,
  Scope,
  seededRandom,
  shuffle,
  type Tensor,
  tensorFrom,
} from '../../engine/index.js';
import {
  adam,
  cosineDistance,
  cosineLoss,
  embedding,
  matmul,
  rowNorms,
  scaleRows,
} from '../../kernels/index.js';
import { difference } from '../activations/rowOperations.js';
import type { CosineSettings } from '../options/pruneOptions.js';
import type { FitPass } from './fitPass.js';
import { identity } from './identity.js';

/** Tokens of one step (the paper's table 14). A view that starts at a multiple of it is aligned for a binding. */
const BATCH_TOKENS = 1024;

/** The objective's inputs from the layer that stays, a row per token: loss = 1 - cos(M T + Y, goal), Y in Eq. 7. */
interface TokenRows {
  readonly mlpOutput: Tensor;
  readonly postAttention?: Tensor;
  readonly goal: Tensor;
}

/** The rows of one step, and its results. */
interface Workspace extends TokenRows {
  /** M T (+ Y) */
  readonly output: Tensor;
  readonly loss: Tensor;
  /** Gradient of the mean loss by `output`. */
  readonly slope: Tensor;
}

interface CosineFit {
  /** T [hidden, hidden] f32, row vectors from the left. The caller disposes it. */
  readonly transform: Tensor;
  /** Weighted mean loss over all tokens: of T = I and of T. */
  readonly lossBefore: number;
  readonly lossAfter: number;
  /** The number by which least squares would multiply Adam's T; Eq. 8 only. */
  readonly leastSquaresScale?: number;
}

/**
 * T = argmin of the mean over all tokens of w (1 - cos(M T + Y, L_j)) (Eq. 7) or w (1 - cos(M T, L_j - Y)) (Eq. 8),
 * + l1 |T|_1 + l2 |T|_F² (alpha R(T) in the paper), by Adam from T = I. As in the paper's formula, both norms pull T
 * itself, not T - I, towards 0; the loss of Eq. 8 ignores the length of T, so there they shrink it freely.
 *
 * M and the goal (and Y) of all tokens stay on the device during the fit.
 *
 * Source: Shopkhoev et al., ReplaceMe (Eqs. 7 and 8, table 14), arXiv:2505.02819.
 * @throws RmError INVALID_ARGUMENT when there are too many tokens for one buffer, NOT_FINITE when the fit diverges.
 */
export async function fitCosine(pass: FitPass, settings: CosineSettings): Promise<CosineFit> {
  const { device, arch } = pass.model;
  using scope = new Scope(device);
  const { journal = noJournal } = pass.inputs.options;
  const { rows, weights, tracking } = await collectRows(pass, settings.equation, scope);
  using _tracking = tracking;
  using _section = device.section('cosine fit');
  const transform = await identity(scope, arch.hidden, 'T');
  const space = workspace(scope, rows);
  const { loss: lossBefore } = await journal.step('loss', () => measure(rows, weights, transform, space));
  await descend(pass, rows, weights, transform, space, settings);
  const { loss: lossAfter, scale } = await measure(rows, weights, transform, space);
  if (!Number.isFinite(lossAfter))
    throw new RmError(
      'NOT_FINITE',
      `the cosine fit of layer ${pass.layer} ends with a loss of ${lossAfter}`,
      'Use a smaller learning rate (1e-4 is the default).',
    );
  const fit = { transform: scope.release(transform), lossBefore, lossAfter };
  return settings.equation === 7 ? fit : { ...fit, leastSquaresScale: scale };
}

/**
 * Runs the layer over all tokens and keeps the rows in `scope`; the journal tracks them until `tracking` is disposed.
 * Without `weights` all tokens count alike.
 */
async function collectRows(
  pass: FitPass,
  equation: 7 | 8,
  scope: Scope,
): Promise<{ rows: TokenRows; weights: Float32Array | undefined; tracking: Disposable }> {
  const { device, arch } = pass.model;
  const rec = device.recorder;
  const shape = [pass.inputs.tokens, arch.hidden] as const;
  const most = Math.floor(device.limits.maxBufferSize / (4 * arch.hidden));
  ensure(
    shape[0] <= most,
    `the cosine fit keeps the MLP outputs of all ${shape[0]} calibration tokens in one buffer`,
    `Use at most ${most} tokens on this device (\`tokens\`).`,
  );
  const [mlpOutput, goal] = ['MLP outputs', 'goals'].map(label => scope.tensor(shape, 'f32', label));
  const postAttention = equation === 7 ? scope.tensor(shape, 'f32', 'hidden states') : undefined;
  const rows = { mlpOutput: mlpOutput!, goal: goal!, ...(postAttention && { postAttention }) };
  const filled = { first: 0, weights: new Float32Array(shape[0]) };
  const { journal = noJournal } = pass.inputs.options;
  const tracking = await journal.track('rows', liveSums(rows, filled));
  await pass.forEach((layer, { weight }) => {
    using temporary = new Scope(device);
    const count = layer.mlpOutput.rowCount;
    const { first } = filled;
    const store = (from: Tensor, to: Tensor) => rec.copy(from, to.rows(first, count));
    store(layer.mlpOutput, mlpOutput!);
    if (postAttention) store(layer.postAttention, postAttention);
    store(postAttention ? layer.target : difference(temporary, layer.target, layer.postAttention), goal!);
    filled.weights.fill(weight, first, first + count);
    filled.first += count;
  });
  const { weights } = filled;
  return { rows, weights: weights.every(weight => weight === 1) ? undefined : weights, tracking };
}

function workspace(scope: Scope, rows: TokenRows): Workspace {
  const shape = [Math.min(BATCH_TOKENS, rows.goal.rowCount), rows.goal.columns];
  const tensor = (label: string) => scope.tensor(shape, 'f32', label);
  return {
    mlpOutput: tensor('M of a step'),
    goal: tensor('goals of a step'),
    ...(rows.postAttention && { postAttention: tensor('Y of a step') }),
    output: tensor('M T'),
    slope: tensor('slope'),
    loss: scope.tensor([shape[0]!], 'f32', 'loss'),
  };
}

/** Views of `count` rows of each tensor, from row `first`. */
function slice<T extends TokenRows>(rows: T, first: number, count: number): T {
  const views = Object.entries(rows).map(([name, tensor]) => [name, (tensor as Tensor).rows(first, count)]);
  return Object.fromEntries(views) as T;
}

/** output = M T (+ Y) */
function apply({ mlpOutput, postAttention }: TokenRows, transform: Tensor, output: Tensor): void {
  const { recorder } = transform.device;
  matmul(recorder, mlpOutput, transform, output, { ...(postAttention && { residual: postAttention }) });
}

/** Mean loss over all tokens, and <M T, goal> / |M T|². */
async function measure(
  rows: TokenRows,
  weights: Float32Array | undefined,
  transform: Tensor,
  { output }: Workspace,
): Promise<{ loss: number; scale: number }> {
  const { device } = transform;
  const rec = device.recorder;
  const tokens = rows.goal.rowCount;
  using scope = new Scope(device);
  const [distances, lengths, goalLengths] = ['distances', 'lengths', 'goal lengths'].map(label =>
    scope.tensor([tokens], 'f32', label),
  ) as [Tensor, Tensor, Tensor];
  for (let first = 0; first < tokens; first += BATCH_TOKENS) {
    const count = Math.min(BATCH_TOKENS, tokens - first);
    const part = slice(rows, first, count);
    const out = output.rows(0, count);
    apply(part, transform, out);
    cosineDistance(rec, out, part.goal, distances.rows(first, count));
    rowNorms(rec, out, lengths.rows(first, count));
    rowNorms(rec, part.goal, goalLengths.rows(first, count));
  }
  const downloaded = await downloadTogether([distances, lengths, goalLengths]);
  const [distance, length, goalLength] = downloaded.map(asF32) as [Float32Array, Float32Array, Float32Array];
  const sums = { weight: 0, loss: 0, product: 0, square: 0 };
  for (let t = 0; t < tokens; t++) {
    const weight = weights?.[t] ?? 1;
    sums.weight += weight;
    sums.loss += weight * distance[t]!;
    sums.product += weight * length[t]! * goalLength[t]! * (1 - distance[t]!);
    sums.square += weight * length[t]! ** 2;
  }
  return { loss: sums.loss / sums.weight, scale: sums.product / sums.square };
}

/** Adam over all epochs; `transform` changes in place. */
async function descend(
  pass: FitPass,
  rows: TokenRows,
  weights: Float32Array | undefined,
  transform: Tensor,
  space: Workspace,
  { epochs, learningRate, l1, l2, shuffle: shuffles, seed }: CosineSettings,
): Promise<void> {
  const { device } = transform;
  const { signal, onProgress, journal = noJournal } = pass.inputs.options;
  const rec = device.recorder;
  const tokens = rows.goal.rowCount;
  using scope = new Scope(device);
  const [gradient, firstMoment, secondMoment] = ['gradient', 'first moment', 'second moment'].map(label =>
    scope.tensor(transform.shape, 'f32', label),
  ) as [Tensor, Tensor, Tensor];
  rec.clear(firstMoment);
  rec.clear(secondMoment);
  const weighted = weights && scope.tensor(space.slope.shape, 'f32', 'weighted slope');
  using _tracking = await journal.track('Adam', liveSums({ transform, firstMoment, secondMoment }));
  using orders = new EpochOrders(device, tokens, weights, shuffles ? seededRandom(seed) : undefined);
  const perEpoch = Math.ceil(tokens / BATCH_TOKENS);
  const total = epochs * perEpoch;
  const ahead = new OneAhead(device);
  const descendOnce = async (step: number) => {
    signal?.throwIfAborted();
    const { ids, rowWeights } = orders.of(Math.floor(step / perEpoch));
    const first = (step % perEpoch) * BATCH_TOKENS;
    const count = Math.min(BATCH_TOKENS, tokens - first);
    const batch = slice(space, 0, count);
    const drawn = ids.rows(first, count);
    embedding(rec, rows.mlpOutput, drawn, batch.mlpOutput);
    embedding(rec, rows.goal, drawn, batch.goal);
    if (rows.postAttention) embedding(rec, rows.postAttention, drawn, batch.postAttention!);
    apply(batch, transform, batch.output);
    cosineLoss(rec, batch.output, batch.goal, batch.loss, batch.slope);
    let { slope } = batch;
    if (rowWeights) {
      slope = weighted!.rows(0, count);
      scaleRows(rec, batch.slope, rowWeights.rows(first, count), slope);
    }
    matmul(rec, batch.mlpOutput, slope, gradient, { transposeA: true });
    const tensors = { parameters: transform, gradient, firstMoment, secondMoment };
    adam(rec, tensors, { learningRate, step: step + 1, l1, l2 });
    await ahead.turn();
  };
  await journal.forEach('cosine fit', total, descendOnce, step =>
    onProgress?.({ phase: 'cosine fit', done: step + 1, total, unit: 'steps' }),
  );
  await ahead.finish();
}

/** The order in which an epoch draws the tokens, and their weights in that order. */
class EpochOrders {
  readonly #order: Uint32Array;
  readonly #scope: Scope;
  #drawn = 0;
  #current: { readonly ids: Tensor; readonly rowWeights: Tensor | undefined } | undefined;

  /** @param random undefined: every epoch draws the tokens as they were read. */
  constructor(
    private readonly device: Device,
    tokens: number,
    private readonly weights: Float32Array | undefined,
    private readonly random: (() => number) | undefined,
  ) {
    this.#order = Uint32Array.from({ length: tokens }, (_, t) => t);
    this.#scope = new Scope(device);
  }

  /** @param epoch from 0, ascending from call to call; skipped epochs are shuffled too. */
  of(epoch: number): { readonly ids: Tensor; readonly rowWeights: Tensor | undefined } {
    const { device, weights } = this;
    if (this.#current && epoch < this.#drawn) return this.#current;
    for (; this.#drawn <= epoch; this.#drawn++) if (this.random) shuffle(this.#order, this.random);
    this.#scope.dispose();
    const ordered = weights && Float32Array.from(this.#order, t => weights[t]!);
    this.#current = {
      ids: this.#scope.own(tensorFrom(device, this.#order, [this.#order.length], 'order of the tokens')),
      rowWeights: ordered && this.#scope.own(tensorFrom(device, ordered)),
    };
    return this.#current;
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }
}
