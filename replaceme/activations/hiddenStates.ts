import { type Device, type LiveState, type StoredTensor, Tensor } from '../../engine/index.js';
import { type Architecture, forward, type Model, totalTokens } from '../../model/index.js';
import { batchedTokens, type CalibrationBatch, openBatch } from '../calibration/calibrationBatch.js';
import type { RunHooks } from '../run/runHooks.js';
import { sha256OfJson } from '../run/sha256.js';

/** Sequences of one packed batch. */
export type Sequences = readonly (readonly number[])[];

const MOST_BYTES = 2 ** 32;

const keys = new WeakMap<Sequences, string>();

/** Tells batches apart, from one process to the next too. */
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
 * Bytes that hidden states may take: at most a quarter of what the memory limit leaves, and at most 4 GiB. Where no
 * limit is known (WebGPU does not tell a GPU's memory) half of what is in use: where a model fits, some more does.
 */
export const roomFor = (memoryLimit: number, bytesInUse: number): number =>
  Math.max(
    0,
    Math.min(MOST_BYTES, Number.isFinite(memoryLimit) ? (memoryLimit - bytesInUse) / 4 : bytesInUse / 2),
  );

/** Room for states that other walks begin with, unless it was planned: half of what `roomFor` gives now. */
export const spareRoom = ({ memory }: Device): number => roomFor(memory.limit, memory.liveBytes) / 2;

/** How many of `tokens` would have their hidden states kept beside `bytesInUse`, and the bytes of these; for plans. */
export function plannedStates(arch: Architecture, tokens: number, memoryLimit: number, bytesInUse: number) {
  const perToken = bytesPerToken(arch);
  const kept = Math.min(tokens, Math.floor(roomFor(memoryLimit, bytesInUse) / perToken));
  return { tokens: kept, bytes: kept * perToken };
}

/**
 * Outputs of all layers over some batches, kept on the device from the walk that ranks windows to the one that gathers
 * statistics: over these batches the latter then runs one layer instead of all below the cut.
 */
export class HiddenStates implements LiveState {
  /** By the sequences' content. */
  readonly #outputs = new Map<string, Map<number, Tensor>>();
  readonly #bytesPerToken: number;
  #room: number;

  /** @param room bytes that they may take (default: by what is free now). */
  constructor({ memory }: Device, arch: Architecture, room = roomFor(memory.limit, memory.liveBytes)) {
    this.#bytesPerToken = bytesPerToken(arch);
    this.#room = room;
  }

  /** True when the outputs of this batch will be kept. */
  reserve(sequences: Sequences): boolean {
    const key = keyOf(sequences);
    if (this.#outputs.has(key)) return true;
    const bytes = this.#bytesPerToken * totalTokens(sequences);
    if (bytes > this.#room) return false;
    this.#room -= bytes;
    this.#outputs.set(key, new Map());
    return true;
  }

  /** Takes over L of `layer` for a batch that has been reserved; others are left to the caller. */
  keep(sequences: Sequences, layer: number, output: Tensor): boolean {
    const kept = this.#outputs.get(keyOf(sequences));
    kept?.get(layer)?.dispose();
    kept?.set(layer, output);
    return kept !== undefined;
  }

  /** Hands L of `layer` over to the caller, if it was kept. */
  take(sequences: Sequences, layer: number): Tensor | undefined {
    const kept = this.#outputs.get(keyOf(sequences));
    const output = kept?.get(layer);
    kept?.delete(layer);
    return output;
  }

  /** L of `layer`, if it was kept; it stays here. */
  peek(sequences: Sequences, layer: number): Tensor | undefined {
    return this.#outputs.get(keyOf(sequences))?.get(layer);
  }

  /** For a journal: what another process goes on from. */
  save(): unknown {
    return { room: this.#room, outputs: this.#outputs };
  }

  /** Takes up what `save` gave. */
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

  /** Frees all layers but these. */
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

/** States that several fits use one after the other: each takes copies, none keeps or frees any. */
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

/** Runs the model over the batches and keeps the outputs of all layers, as far as `states` has room. */
export async function keepStates(
  model: Model,
  batches: readonly CalibrationBatch[],
  states: HiddenStates,
  { onProgress, signal }: RunHooks,
): Promise<void> {
  const { device, arch } = model;
  using _section = device.section('forward');
  const kept = batches.filter(({ sequences }) => states.reserve(sequences));
  const total = batchedTokens(kept);
  let done = 0;
  for (const batch of kept) {
    signal?.throwIfAborted();
    using opened = openBatch(device, batch);
    let input: Tensor | undefined;
    for (let layer = 0; layer < arch.layers; layer++) {
      const output = forward(model, opened, { from: layer, to: layer + 1, ...(input && { input }) });
      states.keep(batch.sequences, layer, output);
      input = output;
    }
    await device.recorder.finish();
    done += opened.tokens;
    onProgress?.({ phase: 'hidden states', done, total, unit: 'tokens' });
  }
}
