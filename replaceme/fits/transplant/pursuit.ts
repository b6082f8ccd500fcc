import { downloadF32, noJournal, OneAhead, Scope, type Tensor, tensorFrom } from '../../../engine/index.js';
import { matmul, rowDots } from '../../../kernels/index.js';
import type { BatchTensors, Model } from '../../../model/index.js';
import { difference, equalRoots, rootsOf, scaledRows } from '../../activations/rowOperations.js';
import type { RunHooks } from '../../run/runHooks.js';
import { normFactors } from '../dividedByNorm.js';
import { RidgeStatistics } from '../ridgeStatistics.js';
import { neuronSquares } from './energies.js';
import { neuronFeatures } from './neuronFeatures.js';
import { type Neurons, type Pick, pickedNeurons } from './neurons.js';

/** Neurons are taken in so many equal blocks. */
export const BLOCKS = 12;
/** Ridge of the columns of the chosen neurons, as a share of their mean square; the same share of all damps weak neurons. */
const RIDGE = 0.05;

/** The neurons of a layer. */
export interface LayerNeurons {
  readonly layer: number;
  readonly neurons: Neurons;
}

/** The tokens on which neurons are compared. */
export interface ComparedTokens {
  /** Batches to look at. */
  readonly indices: readonly number[];
  /** What the neurons read, normalised. */
  readonly states: BatchTensors;
  /** D = L_j - Y: what the MLP of the layer that stays should add. */
  readonly wanted: BatchTensors;
  /** L_j, which weighs the tokens. */
  readonly targets: { state(index: number, scope: Scope): Promise<Tensor> };
  /** Whether a norm follows the MLP; features are then divided by what it divides by with the layer's own neurons. */
  readonly normed: boolean;
}

/**
 * Chooses neurons by orthogonal matching pursuit: block by block those whose features correlate most with what the chosen
 * ones do not yet explain, their columns of down_proj being fitted anew after every block. Features are computed again for
 * every block rather than kept, so that the device needs room for those of one layer and one batch.
 *
 * @param candidates of every layer of the window, the layer that stays first.
 * @param room how many are chosen.
 * @returns places among the candidates, all layers counted through.
 */
export async function pursueNeurons(
  model: Model,
  candidates: readonly LayerNeurons[],
  tokens: ComparedTokens,
  room: number,
  { journal = noJournal, onProgress, signal }: RunHooks = {},
): Promise<number[]> {
  using pursuit = new Pursuit(model, candidates, tokens, signal);
  const squares = await journal.step('squares of neurons', () => pursuit.squares());
  const damping = (RIDGE * squares.reduce((sum, square) => sum + square, 0)) / squares.length;
  const chosen: number[] = [];
  using _ = await journal.track('chosen', {
    save: () => [...chosen],
    restore: (saved: readonly number[]) => void chosen.splice(0, chosen.length, ...saved),
  });
  const block = Math.ceil(room / BLOCKS);
  const takeBlock = async (): Promise<void> => {
    const scores = (await pursuit.correlations(chosen)).map((square, at) =>
      squares[at]! + damping > 0 ? square / (squares[at]! + damping) : 0,
    );
    const taken = new Set(chosen);
    const free = Array.from(scores.keys()).filter(at => !taken.has(at));
    free.sort((a, b) => scores[b]! - scores[a]! || a - b);
    chosen.push(...free.slice(0, Math.min(block, room - chosen.length)));
  };
  await journal.forEach('blocks', Math.ceil(room / block), takeBlock, () =>
    onProgress?.({ phase: 'neurons', done: chosen.length, total: room, unit: 'neurons' }),
  );
  // What is tracked is forgotten after this function, the finished blocks are not.
  return await journal.step('chosen neurons', async () => chosen);
}

/** A neuron by its place among all candidates. */
export function pickOf(
  candidates: readonly LayerNeurons[],
  place: number,
): Pick & { readonly layer: number } {
  let index = place;
  for (const { layer, neurons } of candidates) {
    if (index < neurons.count) return { layer, from: neurons, index };
    index -= neurons.count;
  }
  throw new Error('there are not so many neurons');
}

class Pursuit {
  /** sqrt(w) of the tokens by batch, and what their features are multiplied by: that, divided by the norm. */
  readonly #factors = new Map<number, { readonly roots: Tensor; readonly features: Tensor }>();
  readonly #scope: Scope;

  constructor(
    private readonly model: Model,
    private readonly candidates: readonly LayerNeurons[],
    private readonly tokens: ComparedTokens,
    private readonly signal: AbortSignal | undefined,
  ) {
    this.#scope = new Scope(model.device);
  }

  async #factorsOf(index: number) {
    const known = this.#factors.get(index);
    if (known) return known;
    const { model, tokens } = this;
    using scope = new Scope(model.device);
    const roots = rootsOf(scope, await tokens.targets.state(index, scope));
    const features = tokens.normed
      ? scaledRows(scope, (await this.#ownNorms(index, scope)).reshape([roots.size, 1]), roots)
      : roots;
    for (const tensor of new Set([roots, features])) this.#scope.own(scope.release(tensor));
    const found = { roots, features: features.reshape([roots.size]) };
    this.#factors.set(index, found);
    return found;
  }

  /** What the norm behind the MLP multiplies the tokens by while the layer that stays has its own neurons. */
  async #ownNorms(index: number, scope: Scope): Promise<Tensor> {
    const { model, tokens } = this;
    const { device, arch } = model;
    const { neurons } = this.candidates[0]!;
    const features = (await neuronFeatures(model, neurons, scope))(
      await tokens.states.get(index, scope),
      scope,
    );
    const columns = scope.own(tensorFrom(device, neurons.down, [neurons.count, arch.hidden]));
    const projected = scope.tensor([features.rowCount, arch.hidden], 'f32', 'MLP output');
    matmul(device.recorder, features, columns, projected);
    return normFactors(scope, arch, projected);
  }

  /** sum of w phi² of every candidate. */
  async squares(): Promise<number[]> {
    const { model, tokens } = this;
    const found: number[] = [];
    for (const { neurons } of this.candidates) {
      const factors = async (index: number) => (await this.#factorsOf(index)).features;
      found.push(...(await neuronSquares(model, neurons, tokens.states, factors, tokens.indices)));
    }
    return found;
  }

  /** |sum of w phi R|² of every candidate, R what the chosen ones leave of D. */
  async correlations(chosen: readonly number[]): Promise<number[]> {
    const { model, tokens, candidates } = this;
    const { device, arch } = model;
    const rec = device.recorder;
    using _section = device.section('statistics');
    using left = new Scope(device);
    const residuals = await this.#residuals(chosen, left);
    const found: number[] = [];
    const ahead = new OneAhead(device);
    for (const { neurons } of candidates) {
      using held = new Scope(device);
      const features = await neuronFeatures(model, neurons, held);
      const products = held.tensor([neurons.count, arch.hidden], 'f32', 'correlations');
      rec.clear(products);
      for (const index of tokens.indices) {
        this.signal?.throwIfAborted();
        using scope = new Scope(device);
        const weighted = await this.#weighted(
          index,
          features(await tokens.states.get(index, scope), scope),
          scope,
        );
        matmul(rec, weighted, residuals.get(index)!, products, { transposeA: true, accumulate: true });
        await ahead.turn();
      }
      const squares = held.tensor([neurons.count], 'f32', 'squares');
      rowDots(rec, products, products, squares);
      found.push(...(await downloadF32(squares)));
    }
    return found;
  }

  async #weighted(index: number, features: Tensor, scope: Scope): Promise<Tensor> {
    return scaledRows(scope, features, (await this.#factorsOf(index)).features);
  }

  /** sqrt(w) D of a batch. */
  async #target(index: number, scope: Scope): Promise<Tensor> {
    const { roots } = await this.#factorsOf(index);
    return scaledRows(scope, await this.tokens.wanted.get(index, scope), roots);
  }

  /** sqrt(w) R by batch, in `left`: D less what the chosen neurons make of it with the columns that fit it best. */
  async #residuals(chosen: readonly number[], left: Scope): Promise<ReadonlyMap<number, Tensor>> {
    const { model, tokens } = this;
    const { device, arch } = model;
    const rec = device.recorder;
    const residuals = new Map<number, Tensor>();
    if (chosen.length === 0) {
      for (const index of tokens.indices) {
        using inner = new Scope(device);
        residuals.set(index, left.own(inner.release(await this.#target(index, inner))));
      }
      return residuals;
    }
    using scope = new Scope(device);
    const neurons = pickedNeurons(chosen.map(place => pickOf(this.candidates, place)));
    const features = await neuronFeatures(model, neurons, scope);
    using statistics = new RidgeStatistics(device, neurons.count, arch.hidden);
    const ahead = new OneAhead(device);
    const visit = async (see: (index: number, phi: Tensor, inner: Scope) => Promise<void>) => {
      for (const index of tokens.indices) {
        this.signal?.throwIfAborted();
        using inner = new Scope(device);
        const phi = features(await tokens.states.get(index, inner), inner);
        await see(index, await this.#weighted(index, phi, inner), inner);
        await ahead.turn();
      }
    };
    await visit(async (index, phi, inner) =>
      statistics.add(0, phi, await this.#target(index, inner), equalRoots(inner, phi.rowCount, 1)),
    );
    const solution = await statistics.solve(RIDGE);
    if (solution) scope.own(solution.delta);
    await visit(async (index, phi, inner) => {
      const target = await this.#target(index, inner);
      if (!solution) return void residuals.set(index, left.own(inner.release(target)));
      const explained = inner.tensor(target.shape, 'f32', 'explained');
      matmul(rec, phi, solution.delta, explained);
      residuals.set(index, left.own(inner.release(difference(inner, target, explained))));
    });
    return residuals;
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }
}
