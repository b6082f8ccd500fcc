import {
  type Device,
  type DeviceFacts,
  type LiveState,
  type StoredTensor,
  sha256OfJson,
  Tensor,
} from '../../engine/index.js';
import { type Architecture, forward, type Model, totalTokens } from '../../model/index.js';
import type { CalibrationBatch } from '../calibration/calibrationBatch.js';
import { forEachBatch } from '../calibration/forEachBatch.js';
import type { RunHooks } from '../run/runHooks.js';

/** Sequences of one packed batch. */
export type Sequences = readonly (readonly number[])[];

const MOST_BYTES = 2 ** 32;

const keys = new WeakMap<Sequences, string>();

/** Identifies a batch by its content, in later processes too. */
function keyOf(sequences: Sequences): string {
  let key = keys.get(sequences);
  if (key === undefined) {
    key = sha256OfJson(sequences);
    keys.set(sequences, key);
  }
  return key;
}

const bytesPerToken = ({ hidden, layers }: Architecture): number => 4 * hidden * layers;

/**
 * Bytes that hidden states may take where no plan says it: a quarter of what the memory limit leaves, at most 4 GiB on a
 * software adapter. Without a known limit half of what is in use: a device that holds the model has some room left.
 */
export function roomFor({ info, memory: { limit } }: DeviceFacts, bytesInUse: number): number {
  const room = Number.isFinite(limit) ? (limit - bytesInUse) / 4 : bytesInUse / 2;
  const most = info.kind === 'software' || !Number.isFinite(limit) ? MOST_BYTES : room;
  return Math.max(0, Math.min(most, room));
}

/** Room for states that other passes start from, where no plan gives one: half of what `roomFor` gives now. */
export const spareRoom = (device: Device): number => roomFor(device, device.memory.liveBytes) / 2;

/** For plans: how many of `tokens` keep their hidden states within `room` bytes, and how many bytes those take. */
export function plannedStates(arch: Architecture, tokens: number, room: number) {
  const perToken = bytesPerToken(arch);
  const kept = Math.max(0, Math.min(tokens, Math.floor(room / perToken)));
  return { tokens: kept, bytes: kept * perToken };
}

/**
 * Outputs of all layers for some batches, kept on the device by the pass that ranks windows for the pass that sums
 * statistics, which then runs one layer over these batches instead of all layers below the cut.
 */
export class HiddenStates implements LiveState {
  /** By the content of a batch's sequences, then by layer. */
  readonly #outputs = new Map<string, Map<number, Tensor>>();
  readonly #bytesPerToken: number;
  #room: number;

  /** @param room bytes that the states may take (default: `roomFor` what is free now). */
  constructor(device: Device, arch: Architecture, room = roomFor(device, device.memory.liveBytes)) {
    this.#bytesPerToken = bytesPerToken(arch);
    this.#room = room;
  }

  /** Reserves room for a batch's outputs; false when there is too little. */
  reserve(sequences: Sequences): boolean {
    const key = keyOf(sequences);
    if (this.#outputs.has(key)) return true;
    const bytes = this.#bytesPerToken * totalTokens(sequences);
    if (bytes > this.#room) return false;
    this.#room -= bytes;
    this.#outputs.set(key, new Map());
    return true;
  }

  /** Takes ownership of layer `layer`'s output for a reserved batch; returns false for others, which stay the caller's. */
  keep(sequences: Sequences, layer: number, output: Tensor): boolean {
    const kept = this.#outputs.get(keyOf(sequences));
    kept?.get(layer)?.dispose();
    kept?.set(layer, output);
    return kept !== undefined;
  }

  /** Hands a kept output of layer `layer` over to the caller. */
  take(sequences: Sequences, layer: number): Tensor | undefined {
    const kept = this.#outputs.get(keyOf(sequences));
    const output = kept?.get(layer);
    kept?.delete(layer);
    return output;
  }

  /** A kept output of layer `layer`, still owned here. */
  peek(sequences: Sequences, layer: number): Tensor | undefined {
    return this.#outputs.get(keyOf(sequences))?.get(layer);
  }

  /** State for a journal. */
  save(): unknown {
    return { room: this.#room, outputs: this.#outputs };
  }

  /** Restores what `save` returned. */
  async restore(saved: {
    readonly room: number;
    readonly outputs: ReadonlyMap<string, ReadonlyMap<number, StoredTensor>>;
  }): Promise<void> {
    this.#room = saved.room;
    for (const [key, layers] of saved.outputs) {
      const kept = new Map<number, Tensor>();
      this.#outputs.set(key, kept);
      for (const [layer, stored] of layers) kept.set(layer, await stored.load());
    }
  }

  /** Frees the outputs of all other layers. */
  retain(layers: readonly number[]): void {
    for (const kept of this.#outputs.values()) {
      for (const [layer, output] of kept) {
        if (layers.includes(layer)) continue;
        output.dispose();
        kept.delete(layer);
      }
    }
  }

  /** Frees the states. */
  dispose(): void {
    this.retain([]);
    this.#outputs.clear();
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** States that several fits share one after the other: each takes copies; none keeps or frees any. */
export class LentStates extends HiddenStates {
  constructor(
    private readonly device: Device,
    arch: Architecture,
    private readonly owner: HiddenStates,
  ) {
    super(device, arch);
  }

  override reserve(): boolean {
    return false;
  }

  override peek(sequences: Sequences, layer: number): Tensor | undefined {
    return this.owner.peek(sequences, layer);
  }

  override take(sequences: Sequences, layer: number): Tensor | undefined {
    const state = this.peek(sequences, layer);
    if (!state) return undefined;
    const copy = Tensor.create(this.device, state.shape, state.dtype, state.label);
    this.device.recorder.copy(state, copy);
    return copy;
  }

  override retain(): void {}
}

/** Runs the model over as many batches as `states` has room for, and keeps the outputs of all layers there. */
export async function keepStates(
  model: Model,
  batches: readonly CalibrationBatch[],
  states: HiddenStates,
  { journal: _, ...hooks }: RunHooks,
): Promise<void> {
  const { device, arch } = model;
  using _section = device.section('forward');
  const kept = batches.filter(({ sequences }) => states.reserve(sequences));
  await forEachBatch(device, hooks, 'hidden states', kept, ({ batch, opened }) => {
    let input: Tensor | undefined;
    for (let layer = 0; layer < arch.layers; layer++) {
      const output = forward(model, opened, { from: layer, to: layer + 1, ...(input && { input }) });
      states.keep(batch.sequences, layer, output);
      input = output;
    }
  });
}
