import type { Device, LiveState } from '../../engine/index.js';
import { BatchTensors, type StatePlacement } from '../../model/index.js';

/** Outputs of the last few layers for a group of batches: as far back as a window reaches. */
export class LayerOutputs implements LiveState {
  readonly #outputs = new Map<number, BatchTensors>();

  constructor(
    private readonly device: Device,
    private readonly placement: StatePlacement | undefined,
  ) {}

  /** The outputs of a layer, empty at first. */
  add(layer: number): BatchTensors {
    const outputs = this.#outputs.get(layer) ?? new BatchTensors(this.device, this.placement);
    this.#outputs.set(layer, outputs);
    return outputs;
  }

  at(layer: number): BatchTensors | undefined {
    return this.#outputs.get(layer);
  }

  /** Layers whose outputs are here. */
  get layers(): number[] {
    return [...this.#outputs.keys()];
  }

  /** Frees a layer's outputs. */
  drop(layer: number): void {
    this.#outputs.get(layer)?.dispose();
    this.#outputs.delete(layer);
  }

  async save(): Promise<ReadonlyMap<number, unknown>> {
    const saved = new Map<number, unknown>();
    for (const [layer, outputs] of this.#outputs) saved.set(layer, await outputs.save());
    return saved;
  }

  async restore(saved: ReadonlyMap<number, never>): Promise<void> {
    for (const [layer, outputs] of saved) await this.add(layer).restore(outputs);
  }

  [Symbol.dispose](): void {
    for (const layer of this.layers) this.drop(layer);
  }
}
