import { type Device, downloadF32, RmError, Scope, Tensor, tensorFrom } from '../engine/index.js';
import { type LiveState, noJournal, type StoredTensor } from '../engine/journal.js';
import { seededRandom } from '../engine/random.js';
import { addTransposed } from '../kernels/addTransposed.js';
import { cosineDistance } from '../kernels/cosineDistance.js';
import { axpy } from '../kernels/elementwise.js';
import { matmul } from '../kernels/matmul.js';
import { rowNorms } from '../kernels/reduce.js';
import { scaleRows } from '../kernels/scaleRows.js';
import { quadraticLosses, solveRidgePath } from '../kernels/solveRidge.js';
import { downloadDiagonal } from '../kernels/solveSpd/equilibration.js';
import { groupSequences, totalTokens } from '../model/batch.js';
import { LayerSteps } from '../model/layerSteps.js';
import type { Model } from '../model/model.js';
import { embedTokens } from '../model/transformer.js';
import { batchedTokens, type CalibrationBatch, openBatch } from './calibrationBatch.js';
import { notFinite } from './distance.js';
import { type HiddenStates, roomFor } from './hiddenStates.js';
import { type WalkOptions, walkBatches } from './walk.js';
import type { Window } from './window.js';

/** What is known of a window without pruning. */
export interface WindowMeasure extends Window {
  /** Mean cosine distance of L_i and L_{i+n}, all tokens alike (ReplaceMe Eq. 4). */
  readonly cosine: number;
  /** |L_i + M_i Delta - L_j|² / |L_j|² on held-out tokens: what the best linear map on the MLP's output leaves. */
  readonly residual: number;
  /** The same over |L_i - L_j|²: 1 where no map helps. */
  readonly unexplained: number;
}

/** Measures of all windows of a model. */
export interface WindowMap {
  readonly layers: number;
  readonly tokens: number;
  /** By count, then by layer. */
  readonly windows: readonly WindowMeasure[];
}

export interface WindowMapOptions extends WalkOptions {
  /** Removed layers of the longest windows (default: all but one of the model's). */
  longest?: number;
  /** Is given the outputs of all layers, as far as it has room. */
  states?: HiddenStates;
  /** Random projections that stand for all columns of the targets; `hidden` or more: the columns themselves. */
  projections?: number;
  /** Bytes for the sums; where they do not suffice there are several walks over the tokens. */
  room?: number;
}

const PROJECTIONS = 128;
/** Shares of the Gram matrix's mean diagonal, large ones first; a coarse path, since windows are only ranked. */
const RIDGES = [1, 0.1, 0.01];
/** Bytes of a group of sequences' outputs and MLP outputs of all layers. */
const GROUP_BYTES = 2 ** 29;
/** Rows of a projection are bound on their own, at multiples of 256 bytes. */
const ROWS = 64;

/**
 * Distance and attained residual of all windows up to a length, in one walk over the tokens.
 *
 * Every column of L_j - L_i is a regression of its own on M_i, so a random projection of the columns onto a few
 * stands for all: with signs P the mean of |P e|² is |e|². One factor of G_i serves all j. Maps are fitted on half 0
 * and judged on half 1, each with the ridge that does best there. A token counts 1/|L| with |L| its largest norm in
 * any layer: the same for all windows, and massive activations count no more than others before, at and after the
 * layer that makes them.
 *
 * Cost beside the forward pass, per token and window: 2 hidden (hidden / n + projections) multiply-adds; per window
 * and ridge twice hidden² projections.
 *
 * @throws RmError NOT_FINITE naming the first window whose hidden states hold NaN or infinity; DATA_INVALID where one half
 *   of the batches has no tokens.
 */
export async function windowMap(
  model: Model,
  batches: readonly CalibrationBatch[],
  options: WindowMapOptions = {},
): Promise<WindowMap> {
  const { device, arch } = model;
  using _section = device.section('window map');
  for (const half of [0, 1]) {
    if (batches.some(batch => batch.half === half)) continue;
    throw new RmError(
      'DATA_INVALID',
      'all calibration tokens are of one document: nothing is held out',
      'Give more documents, or shorter sequences.',
    );
  }
  const longest = Math.min(options.longest ?? arch.layers - 1, arch.layers - 1);
  using projection = projectionMatrix(device, arch.hidden, options.projections ?? PROJECTIONS);
  const room = options.room ?? roomFor(device.memory.limit, device.memory.liveBytes);
  const context = { model, batches, options, longest, projection };
  const { journal = noJournal } = options;
  const measures: WindowMeasure[] = [];
  const spare = { states: options.states };
  for (const [first, end] of tiles(arch.layers - 1, longest, projection.rowCount, arch.hidden, room)) {
    const found = await journal.step(`layers ${first} to ${end - 1}`, async () => {
      using tile = new Tile(context, first, end, spare.states);
      using _held = await journal.hold('sums', tile);
      await tile.walk();
      return await tile.measures();
    });
    measures.push(...found);
    delete spare.states;
  }
  measures.sort((a, b) => a.count - b.count || a.layer - b.layer);
  return {
    layers: arch.layers,
    tokens: batchedTokens(batches),
    windows: measures,
  };
}

/** P [rows, hidden]: signs / sqrt(count), or the identity; rows of zeros fill it up. */
function projectionMatrix(device: Device, hidden: number, count: number): Tensor {
  const exact = count >= hidden;
  const rows = Math.ceil((exact ? hidden : count) / ROWS) * ROWS;
  const values = new Float32Array(rows * hidden);
  const random = seededRandom(0);
  if (exact) for (let i = 0; i < hidden; i++) values[i * hidden + i] = 1;
  else for (let at = 0; at < values.length; at++) values[at] = (random() < 0.5 ? -1 : 1) / Math.sqrt(rows);
  return tensorFrom(device, values, [rows, hidden], 'projection');
}

/** Ranges of layers whose sums fit into `room` together, one layer at least. */
function tiles(end: number, longest: number, rows: number, hidden: number, room: number): [number, number][] {
  const found: [number, number][] = [];
  let bytes = 0;
  for (let layer = 0; layer < end; layer++) {
    const targets = Math.min(longest, end - layer) + 1;
    const needed = 2 * 4 * hidden * (hidden + targets * rows);
    const last = found.at(-1);
    if (last && bytes + needed <= room) {
      last[1] = layer + 1;
      bytes += needed;
    } else {
      found.push([layer, layer + 1]);
      bytes = needed;
    }
  }
  return found;
}

/** Sums of one layer that stays and one half of the documents; M and L of every token times sqrt(w). */
interface Sums {
  /** G = MᵀM [hidden, hidden] */
  readonly gram: Tensor;
  /** P Lᵀ M for L of this layer and of the next ones [(targets + 1) * rows, hidden] */
  readonly products: Tensor;
}

interface LayerSums {
  readonly targets: number;
  readonly halves: readonly [Sums, Sums];
  readonly scope: Scope;
  /** By count - 1: sums of cosine distances; and over the held-out half |P (L_j - L_i)|², |L_j - L_i|², |L_j|². */
  readonly cosine: Float64Array;
  readonly projected: Float64Array;
  readonly changes: Float64Array;
  readonly outputs: Float64Array;
  /** Of its windows, once they are known; the sums are gone then. */
  readonly measures: WindowMeasure[];
}

const numberNames = ['cosine', 'projected', 'changes', 'outputs'] as const;

interface SavedLayer {
  readonly measures?: readonly WindowMeasure[];
  readonly halves?: readonly { readonly gram: StoredTensor; readonly products: StoredTensor }[];
  readonly numbers?: Readonly<Record<(typeof numberNames)[number], Float64Array>>;
}

interface TileContext {
  readonly model: Model;
  readonly batches: readonly CalibrationBatch[];
  readonly options: WindowMapOptions;
  readonly longest: number;
  readonly projection: Tensor;
}

/** The layers first .. end-1 as layers that stay. */
class Tile implements LiveState {
  readonly #layers: LayerSums[] = [];
  readonly #scopes: Scope[] = [];
  readonly #tokens: number;

  constructor(
    private readonly context: TileContext,
    private readonly first: number,
    private readonly end: number,
    private readonly states: HiddenStates | undefined,
  ) {
    const { model, longest, projection, batches } = context;
    const { device, arch } = model;
    const { hidden } = arch;
    this.#tokens = batchedTokens(batches);
    try {
      for (let layer = first; layer < end; layer++) {
        const targets = Math.min(longest, arch.layers - 1 - layer);
        const scope = new Scope(device);
        this.#scopes.push(scope);
        const sums = (): Sums => {
          const gram = scope.tensor([hidden, hidden], 'f32', 'Gram matrix');
          const products = scope.tensor([(targets + 1) * projection.rowCount, hidden], 'f32', 'products');
          device.recorder.clear(gram);
          device.recorder.clear(products);
          return { gram, products };
        };
        const numbers = () => new Float64Array(targets);
        const scalars = { cosine: numbers(), projected: numbers(), changes: numbers(), outputs: numbers() };
        this.#layers.push({ targets, scope, halves: [sums(), sums()], ...scalars, measures: [] });
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  async walk(): Promise<void> {
    const { model, batches, options } = this.context;
    const { hidden, layers } = model.arch;
    const most = Math.floor(GROUP_BYTES / (8 * hidden * layers));
    const groups = batches.flatMap(batch => splitBatch(batch, most).map(group => ({ batch, group })));
    await walkBatches(
      options,
      'window map',
      groups,
      ({ group }) => group.sequences,
      ({ batch, group }) => this.#add(group, group.sequences === batch.sequences),
    );
  }

  save(): unknown {
    return this.#layers.map(({ measures, halves, cosine, projected, changes, outputs }) =>
      measures.length > 0 ? { measures } : { halves, numbers: { cosine, projected, changes, outputs } },
    );
  }

  async restore(saved: readonly SavedLayer[]): Promise<void> {
    for (const [at, { measures = [], halves = [], numbers }] of saved.entries()) {
      const layer = this.#layers[at]!;
      layer.measures.push(...measures);
      if (measures.length > 0) layer.scope.dispose();
      for (const [half, { gram, products }] of halves.entries()) {
        await gram.into(layer.halves[half]!.gram);
        await products.into(layer.halves[half]!.products);
      }
      for (const name of numberNames) layer[name].set(numbers?.[name] ?? layer[name]);
    }
  }

  /** @param whole the batch is as the walks to come know it: those find no states of parts. */
  async #add(batch: CalibrationBatch, whole: boolean): Promise<void> {
    const { device } = this.context.model;
    const rec = device.recorder;
    using scope = new Scope(device);
    const { outputs, mlpOutputs } = this.#forward(batch, scope);
    using _section = device.section('statistics');
    const norms = await allNorms(scope, outputs);
    const tokens = norms[0]!.length;
    const weights = Float64Array.from({ length: tokens }, (_, t) => {
      const largest = Math.max(...norms.map(of => of[t]!));
      return largest > 0 ? batch.weight / largest : 0;
    });
    await this.#addDistances(batch, scope, outputs, norms, weights);

    const roots = scope.own(tensorFrom(device, Float32Array.from(weights, Math.sqrt)));
    const weighted = (x: Tensor, inner: Scope) => {
      const out = inner.tensor(x.shape, 'f32', x.label);
      scaleRows(rec, x, roots, out);
      return out;
    };
    const { projection } = this.context;
    const rows = projection.rowCount;
    /** P Lᵀ of every layer. */
    const projected = scope.tensor([outputs.length * rows, tokens], 'f32', 'projected outputs');
    for (const [layer, output] of outputs.entries()) {
      using inner = new Scope(device);
      matmul(rec, projection, weighted(output, inner), projected.rows(layer * rows, rows), {
        transposeB: true,
      });
    }
    for (const [at, sums] of this.#layers.entries()) {
      using inner = new Scope(device);
      const mlpOutput = weighted(mlpOutputs[at]!, inner);
      const all = projected.rows((this.first + at) * rows, (sums.targets + 1) * rows);
      const { gram, products } = sums.halves[batch.half];
      matmul(rec, mlpOutput, mlpOutput, gram, { transposeA: true, accumulate: true });
      matmul(rec, all, mlpOutput, products, { accumulate: true });
      if (batch.half === 1) await addProjectedChanges(inner, all, rows, sums.projected);
    }
    if (whole && this.states?.reserve(batch.sequences)) {
      for (const [layer, output] of outputs.entries()) {
        this.states.keep(batch.sequences, layer, scope.release(output));
      }
    }
    await rec.finish();
  }

  /** L of all layers, and M of those of this tile. */
  #forward(batch: CalibrationBatch, scope: Scope): { outputs: Tensor[]; mlpOutputs: Tensor[] } {
    const { model } = this.context;
    using _section = model.device.section('forward');
    using opened = openBatch(model.device, batch);
    const outputs: Tensor[] = [];
    const mlpOutputs: Tensor[] = [];
    let input = scope.own(embedTokens(model, opened));
    for (let layer = 0; layer < model.arch.layers; layer++) {
      using inner = new Scope(model.device);
      const steps = new LayerSteps(model, layer, opened, inner);
      const y = steps.postAttention(input, steps.attended(input));
      const features = steps.mlpFeatures(y, input);
      if (layer >= this.first && layer < this.end) {
        mlpOutputs.push(scope.own(inner.release(steps.mlpOutput(features))));
      }
      input = scope.own(inner.release(steps.output(y, features)));
      outputs.push(input);
    }
    return { outputs, mlpOutputs };
  }

  /** Cosine distances, and from them and the norms the exact squares. */
  async #addDistances(
    { half }: CalibrationBatch,
    scope: Scope,
    outputs: readonly Tensor[],
    norms: readonly Float32Array[],
    weights: Float64Array,
  ): Promise<void> {
    const rec = scope.device.recorder;
    const pairs = this.#layers.flatMap((sums, at) =>
      Array.from({ length: sums.targets }, (_, n) => ({ sums, n, layer: this.first + at })),
    );
    const tokens = weights.length;
    const distances = scope.tensor([pairs.length, tokens], 'f32', 'distances');
    const current = scope.tensor([tokens], 'f32', 'distance');
    for (const [p, { layer, n }] of pairs.entries()) {
      cosineDistance(rec, outputs[layer]!, outputs[layer + n + 1]!, current);
      rec.copy(current, distances.rows(p, 1));
    }
    const values = await downloadF32(distances);
    for (const [p, { sums, n, layer }] of pairs.entries()) {
      const [from, to] = [norms[layer]!, norms[layer + n + 1]!];
      for (let t = 0; t < tokens; t++) {
        const distance = values[p * tokens + t]!;
        sums.cosine[n]! += distance;
        if (half === 0) continue;
        const [a, b] = [from[t]!, to[t]!];
        sums.changes[n]! += weights[t]! * ((a - b) ** 2 + 2 * a * b * distance);
        sums.outputs[n]! += weights[t]! * b * b;
      }
      if (!Number.isFinite(sums.cosine[n])) throw notFinite(layer, layer + n + 1);
    }
  }

  /** Solves for the maps; the sums are used up. */
  async measures(): Promise<WindowMeasure[]> {
    const { options, model } = this.context;
    using _section = model.device.section('solve');
    const { journal = noJournal, onProgress } = options;
    const solve = async (at: number) => {
      options.signal?.throwIfAborted();
      const sums = this.#layers[at]!;
      const layer = this.first + at;
      const losses = await this.#losses(sums);
      for (const [n, loss] of losses.entries()) {
        const projected = sums.projected[n]!;
        const unexplained = projected > 0 ? Math.max(0, 1 + Math.min(0, loss) / projected) : 1;
        const moved = sums.outputs[n]! > 0 ? sums.changes[n]! / sums.outputs[n]! : 0;
        const cosine = sums.cosine[n]! / this.#tokens;
        sums.measures.push({ layer, count: n + 1, cosine, residual: unexplained * moved, unexplained });
      }
      sums.scope.dispose();
    };
    await journal.walk('maps', this.#layers.length, solve, at =>
      onProgress?.({ phase: 'window map', done: at + 1, total: this.#layers.length, unit: 'layers' }),
    );
    return this.#layers.flatMap(({ measures }) => measures);
  }

  /** By count - 1: the least that a ridge adds to |P (L_j - L_i)|² on the held-out half. */
  async #losses({ targets, halves }: LayerSums): Promise<number[]> {
    const { device, arch } = this.context.model;
    const rec = device.recorder;
    const rows = this.context.projection.rowCount;
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
    const [fitted, held] = halves;
    const diagonal = await downloadDiagonal(rec, fitted.gram);
    const mean = diagonal.reduce((sum, value) => sum + value, 0) / arch.hidden;
    const shifts = mean > 0 ? RIDGES.map(share => share * mean) : [];
    for await (const { x } of solveRidgePath(device, fitted.gram, crosses[0]!, shifts)) {
      using _ = x;
      const losses = await quadraticLosses(device, held.gram, crosses[1]!, x, targets);
      for (const [n, loss] of losses.entries()) best[n] = Math.min(best[n]!, loss);
    }
    return best;
  }

  [Symbol.dispose](): void {
    for (const scope of this.#scopes) scope.dispose();
  }
}

/** Whole sequences, so that no group has more than `tokens` tokens; the batch itself where it has not more. */
function splitBatch(batch: CalibrationBatch, tokens: number): readonly CalibrationBatch[] {
  if (totalTokens(batch.sequences) <= tokens) return [batch];
  let first = 0;
  return groupSequences(batch.sequences, tokens).map(sequences => {
    const lengths = batch.lengths?.slice(first, first + sequences.length);
    first += sequences.length;
    return { ...batch, sequences, ...(lengths && { lengths }) };
  });
}

/** |L| by layer and token. */
async function allNorms(scope: Scope, outputs: readonly Tensor[]): Promise<Float32Array[]> {
  const rec = scope.device.recorder;
  const tokens = outputs[0]!.rowCount;
  const norms = scope.tensor([outputs.length, tokens], 'f32', 'norms');
  const current = scope.tensor([tokens], 'f32', 'norms');
  for (const [layer, output] of outputs.entries()) {
    rowNorms(rec, output, current);
    rec.copy(current, norms.rows(layer, 1));
  }
  const values = await downloadF32(norms);
  return outputs.map((_, layer) => values.subarray(layer * tokens, (layer + 1) * tokens));
}

/** Adds |P (L_j - L_i)|² of every j; `all`: P Lᵀ of the layer that stays, then of the targets, `rows` rows each. */
async function addProjectedChanges(
  scope: Scope,
  all: Tensor,
  rows: number,
  sums: Float64Array,
): Promise<void> {
  const rec = scope.device.recorder;
  const changes = scope.tensor([sums.length * rows, all.columns], 'f32', 'projected changes');
  rec.copy(all.rows(rows, sums.length * rows), changes);
  for (let n = 0; n < sums.length; n++) axpy(rec, -1, all.rows(0, rows), changes.rows(n * rows, rows));
  const norms = scope.tensor([sums.length * rows], 'f32', 'norms');
  rowNorms(rec, changes, norms);
  for (const [row, norm] of (await downloadF32(norms)).entries()) {
    sums[Math.floor(row / rows)]! += norm * norm;
  }
}
