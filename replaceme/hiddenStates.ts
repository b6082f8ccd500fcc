import type { Device, Tensor } from '../engine/index.js';
import type { Architecture } from '../model/architecture.js';
import { totalTokens } from '../model/batch.js';

/** Sequences of one packed batch; batches are told apart by identity. */
type Sequences = readonly (readonly number[])[];

const MOST_BYTES = 2 ** 30;

const bytesPerToken = ({ hidden, layers }: Architecture): number => 4 * hidden * layers;

/**
 * Bytes that hidden states may take: at most a quarter of what the memory limit leaves, and at most 1 GiB. Where no limit
 * is known (WebGPU does not tell a GPU's memory) half of what is in use: where a model fits, a little more does.
 */
const roomFor = (memoryLimit: number, bytesInUse: number): number =>
  Math.max(
    0,
    Math.min(MOST_BYTES, Number.isFinite(memoryLimit) ? (memoryLimit - bytesInUse) / 4 : bytesInUse / 2),
  );

/** Tokens, of `tokens`, whose hidden states would be kept beside `bytesInUse` of weights, and their bytes; for plans. */
export function plannedStates(arch: Architecture, tokens: number, memoryLimit: number, bytesInUse: number) {
  const perToken = bytesPerToken(arch);
  const kept = Math.min(tokens, Math.floor(roomFor(memoryLimit, bytesInUse) / perToken));
  return { tokens: kept, bytes: kept * perToken };
}

/**
 * Outputs of all layers over some batches, kept on the device from the walk that ranks windows to the one that gathers
 * statistics: over these batches the latter then runs one layer instead of all below the cut.
 */
export class HiddenStates {
  readonly #outputs = new Map<Sequences, Map<number, Tensor>>();
  readonly #bytesPerToken: number;
  #room: number;

  constructor({ memory }: Device, arch: Architecture) {
    this.#bytesPerToken = bytesPerToken(arch);
    this.#room = roomFor(memory.limit, memory.liveBytes);
  }

  /** True when the outputs of this batch will be kept. */
  reserve(sequences: Sequences): boolean {
    if (this.#outputs.has(sequences)) return true;
    const bytes = this.#bytesPerToken * totalTokens(sequences);
    if (bytes > this.#room) return false;
    this.#room -= bytes;
    this.#outputs.set(sequences, new Map());
    return true;
  }

  /** Takes over L of `layer` for a batch that has been reserved; others are left to the caller. */
  keep(sequences: Sequences, layer: number, output: Tensor): boolean {
    const kept = this.#outputs.get(sequences);
    kept?.get(layer)?.dispose();
    kept?.set(layer, output);
    return kept !== undefined;
  }

  /** Hands L of `layer` over to the caller, if it was kept. */
  take(sequences: Sequences, layer: number): Tensor | undefined {
    const kept = this.#outputs.get(sequences);
    const output = kept?.get(layer);
    kept?.delete(layer);
    return output;
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

  dispose(): void {
    this.retain([]);
    this.#outputs.clear();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
