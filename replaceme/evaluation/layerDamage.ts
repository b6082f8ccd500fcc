import {
  type Device,
  LaterDownloads,
  type LiveState,
  noJournal,
  OneAhead,
  Scope,
  type StoredTensor,
  type Tensor,
} from '../../engine/index.js';
import {
  Batch,
  BatchTensors,
  embedTokens,
  forward,
  type Model,
  scoredGroups,
  totalTokens,
} from '../../model/index.js';
import { difference, rowNormsOf } from '../activations/rowOperations.js';
import { findSinks } from '../fits/attentionSinks.js';
import { RelativeErrors } from '../fits/relativeErrors.js';
import { forEachGroup, layerwiseGroups } from '../run/forEachGroup.js';
import type { RunHooks } from '../run/runHooks.js';

/** How far a pruned model's hidden states are from the unpruned model's after one layer. */
export interface DamagePoint {
  /** The layer of the unpruned model whose output L corresponds to the pruned model's L'; for a window its last one. */
  readonly layer: number;
  /** Mean |L' - L|² / |L|² over ordinary tokens and over attention sinks; null where there are none. */
  readonly ordinary: number;
  readonly sinks: number | null;
}

/** The result of `layerDamage`. */
export interface Damage {
  readonly tokens: number;
  /** How many of them are attention sinks after the last layer. */
  readonly sinks: number;
  /** For each pruned model, by layer. */
  readonly models: readonly (readonly DamagePoint[])[];
}

/** Sequences that run as one batch. */
type Group = readonly (readonly number[])[];

/**
 * Hidden-state errors of pruned models after each layer: all models run side by side through a batch, layer by layer.
 * Sinks are found by |L| of the unpruned model at each layer, as in fits.
 *
 * @param models made of `original` with the layers `keep`.
 * @throws RmError DATA_INVALID where no sequence has two tokens.
 */
export async function layerDamage(
  original: Model,
  models: readonly Model[],
  keep: readonly number[],
  sequences: readonly (readonly number[])[],
  { batchTokens, ...hooks }: RunHooks & { readonly batchTokens: number },
): Promise<Damage> {
  const { device, arch } = original;
  using _section = device.section('layer damage');
  const kept = new Set(keep);
  // After these layers of the original model the pruned models have corresponding states.
  const depths = Array.from({ length: arch.layers }, (_, layer) => layer).filter(
    layer => layer + 1 === arch.layers || kept.has(layer + 1),
  );
  const { journal = noJournal } = hooks;
  // A single group is quick enough to be redone on resume.
  const inner = original.isOffloaded ? journal : noJournal;
  using later = new LaterDownloads(device);
  const ahead = new OneAhead(device);
  const damage = new DamageSums(models.length, depths, later);
  using _tracking = await journal.track('errors', later.before(damage));
  await forEachGroup(
    hooks,
    'damage by layer',
    layerwiseGroups(original, scoredGroups(sequences, batchTokens)),
    groups => groups.flat(),
    async groups => {
      using lockstep = new Lockstep(original, models, keep, groups);
      using _states = await inner.track('states', lockstep);
      using rows = new DamageRows(device, groups.length);
      using _rows = await inner.track('norms', rows);
      await inner.forEach('depths', depths.length, async d => {
        await lockstep.advance(depths[d]!);
        for (const index of groups.keys()) {
          using scope = new Scope(device);
          rows.add(index, await lockstep.states(index, scope), scope);
        }
      });
      for (const [index, group] of groups.entries()) await damage.add(group, rows.take(index));
      await ahead.turn();
    },
  );
  await later.arrive();
  return damage.result();
}

/** Norms of one batch at one depth, f32 [tokens]: |L|, and |L' - L| of each pruned model. */
interface RowNorms<T> {
  readonly norms: T;
  readonly errors: readonly T[];
}

/** Norms of some batches at all depths so far, on the device. */
class DamageRows implements LiveState {
  readonly #scope: Scope;
  /** By batch, then by depth. */
  readonly #rows: readonly RowNorms<Tensor>[][];

  constructor(device: Device, batches: number) {
    this.#scope = new Scope(device);
    this.#rows = Array.from({ length: batches }, () => []);
  }

  /** Hands the norms of a batch over to the caller. */
  take(index: number): readonly RowNorms<Tensor>[] {
    const rows = this.#rows[index]!.splice(0);
    for (const { norms, errors } of rows)
      for (const tensor of [norms, ...errors]) this.#scope.release(tensor);
    return rows;
  }

  /** Adds the next depth of a batch. @param states the original model's, then those of the pruned models. */
  add(index: number, [target, ...states]: readonly Tensor[], scope: Scope): void {
    this.#rows[index]!.push({
      norms: this.#norms(target!),
      errors: states.map(state => this.#norms(difference(scope, target!, state))),
    });
  }

  #norms(x: Tensor): Tensor {
    return this.#scope.own(rowNormsOf(x));
  }

  save(): unknown {
    return this.#rows;
  }

  async restore(saved: readonly (readonly RowNorms<StoredTensor>[])[]): Promise<void> {
    const load = async (stored: StoredTensor) => this.#scope.own(await stored.load());
    for (const [index, depths] of saved.entries()) {
      for (const { norms, errors } of depths) {
        const loaded: Tensor[] = [];
        const loadedNorms = await load(norms);
        for (const error of errors) loaded.push(await load(error));
        this.#rows[index]!.push({ norms: loadedNorms, errors: loaded });
      }
    }
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }
}

/** Sums of errors by model and depth. */
class DamageSums implements LiveState {
  readonly #errors: readonly (readonly RelativeErrors[])[];
  #tokens = 0;
  #sinks = 0;

  constructor(
    models: number,
    private readonly depths: readonly number[],
    private readonly later: LaterDownloads,
  ) {
    this.#errors = Array.from({ length: models }, () => depths.map(() => new RelativeErrors()));
  }

  /** Adds a batch. @param rows its norms by depth, whose tensors are taken. */
  async add(group: Group, rows: readonly RowNorms<Tensor>[]): Promise<void> {
    for (const [d, { norms, errors }] of rows.entries()) {
      await this.later.readF32([norms, ...errors], ([lengths, ...ofModels]) => {
        const sinks = findSinks(lengths!, group);
        if (d + 1 === rows.length) {
          this.#sinks += sinks.filter(Boolean).length;
          this.#tokens += totalTokens(group);
        }
        for (const [m, values] of ofModels.entries()) this.#errors[m]![d]!.add(lengths!, values, sinks);
      });
    }
  }

  result(): Damage {
    return {
      tokens: this.#tokens,
      sinks: this.#sinks,
      models: this.#errors.map(errors =>
        errors.map(({ ordinary, sinks }, d) => ({ layer: this.depths[d]!, ordinary, sinks: sinks ?? null })),
      ),
    };
  }

  save(): unknown {
    const errors = this.#errors.map(points => points.map(point => point.save()));
    return { tokens: this.#tokens, sinks: this.#sinks, errors };
  }

  restore(saved: {
    readonly tokens: number;
    readonly sinks: number;
    readonly errors: readonly (readonly never[])[];
  }): void {
    this.#tokens = saved.tokens;
    this.#sinks = saved.sinks;
    for (const [m, points] of saved.errors.entries()) {
      for (const [d, point] of points.entries()) this.#errors[m]![d]!.restore(point);
    }
  }
}

/** Runs the original model and pruned ones side by side, layer by layer, over some batches. */
class Lockstep implements LiveState {
  readonly #batches: readonly Batch[];
  /** By model, the original first. */
  readonly #states: readonly BatchTensors[];
  readonly #ahead: OneAhead;
  #depth = 0;

  constructor(
    private readonly original: Model,
    private readonly models: readonly Model[],
    private readonly keep: readonly number[],
    groups: readonly Group[],
  ) {
    const { device } = original;
    this.#ahead = new OneAhead(device);
    this.#batches = groups.map(group => new Batch(device, group));
    const placement = original.isOffloaded ? ({ place: 'host', dtype: 'f32' } as const) : undefined;
    this.#states = [original, ...models].map(() => new BatchTensors(device, placement));
  }

  async save(): Promise<unknown> {
    return { depth: this.#depth, states: await Promise.all(this.#states.map(states => states.save())) };
  }

  async restore(saved: { readonly depth: number; readonly states: readonly never[] }): Promise<void> {
    this.#depth = saved.depth;
    for (const [m, states] of saved.states.entries()) await this.#states[m]!.restore(states);
  }

  /** Runs all models up to the outputs of layer `layer` of the original. */
  async advance(layer: number): Promise<void> {
    for (; this.#depth <= layer; this.#depth++) {
      const at = this.keep.indexOf(this.#depth);
      await this.original.loadLayer(this.#depth, this.#depth + 1);
      await this.#step(0, this.original, this.#depth);
      if (at < 0) continue;
      for (const [m, model] of this.models.entries()) {
        // The same layer of the checkpoint, with the pruned model's changes.
        await model.loadLayer(at);
        await this.#step(m + 1, model, at);
      }
    }
  }

  /** Hidden states of a batch: the original model's, then those of the pruned models. */
  states(index: number, scope: Scope): Promise<Tensor[]> {
    return Promise.all(this.#states.map(states => states.get(index, scope)));
  }

  async #step(m: number, model: Model, layer: number): Promise<void> {
    const states = this.#states[m]!;
    for (const [index, batch] of this.#batches.entries()) {
      using scope = new Scope(model.device);
      // All models start at the original's embeddings.
      const input = states.has(index) ? await states.get(index, scope) : scope.own(embedTokens(model, batch));
      states.put(index, forward(model, batch, { from: layer, to: layer + 1, input }));
      if (model.isOffloaded) await this.#ahead.turn();
    }
  }

  [Symbol.dispose](): void {
    for (const states of this.#states) states.dispose();
    for (const batch of this.#batches) batch.dispose();
  }
}
