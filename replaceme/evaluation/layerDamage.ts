import {
  downloadF32,
  type LiveState,
  liveSums,
  noJournal,
  Scope,
  type StoredTensor,
  type Tensor,
} from '../../engine/index.js';
import { rowNorms } from '../../kernels/index.js';
import {
  Batch,
  BatchTensors,
  embedTokens,
  forward,
  type Model,
  scoredGroups,
  totalTokens,
} from '../../model/index.js';
import { difference } from '../activations/rowNorms.js';
import { walkGroups } from '../calibration/calibrationBatch.js';
import { findSinks } from '../fits/attentionSinks.js';
import { RelativeErrors } from '../fits/relativeErrors.js';
import { forEachGroup, type RunHooks } from '../run/runHooks.js';

/** How far a pruned model's hidden states are from the unpruned model's after one layer. */
export interface DamagePoint {
  /** The layer of the unpruned model whose output L the pruned model's L' stands for; the last one of a window. */
  readonly layer: number;
  /** Mean |L' - L|² / |L|² over ordinary tokens and over sinks; null where there are none. */
  readonly ordinary: number;
  readonly sinks: number | null;
}

/** What `layerDamage` measures. */
export interface Damage {
  readonly tokens: number;
  /** Of these, attention sinks after the last layer. */
  readonly sinks: number;
  /** Of each pruned model, in the order of the layers. */
  readonly models: readonly (readonly DamagePoint[])[];
}

/**
 * Hidden-state errors of pruned models after each layer, beside the unpruned model: all walk through a batch together,
 * layer by layer. Sinks are judged by |L| of the unpruned model at each layer, as fits do.
 *
 * @param models made of `original` with the layers `keep`.
 * @throws RmError DATA_INVALID where no sequence has two tokens.
 */
export async function layerDamage(
  original: Model,
  models: readonly Model[],
  keep: readonly number[],
  sequences: readonly (readonly number[])[],
  { batchTokens, ...options }: RunHooks & { readonly batchTokens: number },
): Promise<Damage> {
  const { device, arch } = original;
  using _section = device.section('layer damage');
  const kept = new Set(keep);
  // After these layers of the original model the pruned ones have a state that stands for the same.
  const depths = Array.from({ length: arch.layers }, (_, layer) => layer).filter(
    layer => layer + 1 === arch.layers || kept.has(layer + 1),
  );
  const { journal = noJournal } = options;
  // Groups on their own are done in one go.
  const inner = original.isOffloaded ? journal : noJournal;
  const sums = models.map(() => depths.map(() => new RelativeErrors()));
  const counted = { tokens: 0, sinks: 0 };
  using _counted = await journal.track('tokens', liveSums({}, counted));
  using _sums = await journal.track('errors', {
    save: () => sums.map(points => points.map(point => point.save())),
    restore: (saved: readonly (readonly never[])[]) => {
      for (const [m, points] of saved.entries()) {
        for (const [d, point] of points.entries()) sums[m]![d]!.restore(point);
      }
    },
  });
  const groups = walkGroups(original, scoredGroups(sequences, batchTokens));
  await forEachGroup(
    options,
    'damage by layer',
    groups,
    together => together.flat(),
    async together => {
      using scope = new Scope(device);
      using walk = new Walk(original, models, keep, together);
      using _walk = await inner.track('states', walk);
      const norms = (x: Tensor) => {
        const out = scope.tensor([x.rowCount], 'f32', 'norms');
        rowNorms(device.recorder, x, out);
        return out;
      };
      const measured: { norms: Tensor; errors: Tensor[] }[][] = together.map(() => []);
      const load = async (stored: StoredTensor) => scope.own(await stored.load());
      using _measured = await inner.track('norms', {
        save: () => measured,
        restore: async (saved: { norms: StoredTensor; errors: StoredTensor[] }[][]) => {
          for (const [index, points] of saved.entries()) {
            for (const { norms, errors } of points) {
              const found = { norms: await load(norms), errors: [] as Tensor[] };
              measured[index]!.push(found);
              for (const error of errors) found.errors.push(await load(error));
            }
          }
        },
      });
      await inner.forEach('depths', depths.length, async d => {
        await walk.to(depths[d]!);
        for (const index of together.keys()) {
          using visited = new Scope(device);
          const [target, ...states] = await walk.states(index, visited);
          measured[index]!.push({
            norms: norms(target!),
            errors: states.map(state => norms(difference(visited, target!, state))),
          });
        }
      });
      for (const [index, group] of together.entries()) {
        for (const [d, { norms, errors }] of measured[index]!.entries()) {
          const lengths = await downloadF32(norms);
          const sinks = findSinks(lengths, group);
          if (d + 1 === depths.length) counted.sinks += sinks.filter(Boolean).length;
          for (const [m, error] of errors.entries()) {
            sums[m]![d]!.add(lengths, await downloadF32(error), sinks);
          }
        }
        counted.tokens += totalTokens(group);
      }
    },
  );
  return {
    ...counted,
    models: sums.map(points =>
      points.map(({ ordinary, sinks }, d) => ({ layer: depths[d]!, ordinary, sinks: sinks ?? null })),
    ),
  };
}

/** Hidden states of the original model and of pruned ones at one depth of some batches. */
class Walk implements LiveState {
  readonly #batches: readonly Batch[];
  /** By model, the original first. */
  readonly #states: readonly BatchTensors[];
  #depth = 0;

  constructor(
    private readonly original: Model,
    private readonly models: readonly Model[],
    private readonly keep: readonly number[],
    groups: readonly (readonly (readonly number[])[])[],
  ) {
    const { device } = original;
    this.#batches = groups.map(group => new Batch(device, group));
    const placement = original.isOffloaded ? ({ place: 'host', dtype: 'f32' } as const) : undefined;
    this.#states = [original, ...models].map(() => new BatchTensors(device, placement));
  }

  save(): unknown {
    return { depth: this.#depth, states: this.#states.map(states => states.save()) };
  }

  async restore(saved: { readonly depth: number; readonly states: readonly never[] }): Promise<void> {
    this.#depth = saved.depth;
    for (const [of, states] of saved.states.entries()) await this.#states[of]!.restore(states);
  }

  /** Runs all of them up to the outputs of layer `depth` of the original. */
  async to(depth: number): Promise<void> {
    for (; this.#depth <= depth; this.#depth++) {
      const at = this.keep.indexOf(this.#depth);
      await this.original.loadLayer(this.#depth, this.#depth + 1);
      await this.#step(0, this.original, this.#depth);
      if (at < 0) continue;
      for (const [m, model] of this.models.entries()) {
        // The same layer of the checkpoint, beside what has changed of it.
        await model.loadLayer(at);
        await this.#step(m + 1, model, at);
      }
    }
  }

  /** Of a batch: the original model's and the pruned ones'. */
  states(index: number, scope: Scope): Promise<Tensor[]> {
    return Promise.all(this.#states.map(of => of.get(index, scope)));
  }

  async #step(of: number, model: Model, layer: number): Promise<void> {
    const states = this.#states[of]!;
    for (const [index, batch] of this.#batches.entries()) {
      using scope = new Scope(model.device);
      // Models with fewer layers begin where the original does.
      const input = states.has(index) ? await states.get(index, scope) : scope.own(embedTokens(model, batch));
      await states.put(index, forward(model, batch, { from: layer, to: layer + 1, input }));
    }
  }

  [Symbol.dispose](): void {
    for (const states of this.#states) states.dispose();
    for (const batch of this.#batches) batch.dispose();
  }
}
