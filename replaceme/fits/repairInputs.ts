import { noJournal } from '../../engine/index.js';
import { LayerInputs } from '../activations/layerInputs.js';
import { lastRemoved, type Window } from '../run/window.js';
import { healLayer } from './closedFormHealing.js';
import type { LayerRefit } from './refitLayer.js';
import type { RepairContext } from './repair.js';

/** Moves the model pruned so far and the original one side by side, from window to window. */
export class RepairInputs {
  #original: LayerInputs | undefined;
  /** Stays before the window when the original goes on, where a fit walks through the window. */
  #walker: LayerInputs | undefined;

  private constructor(
    private readonly context: RepairContext,
    private readonly windows: readonly Window[],
    private readonly onHealed: (layer: number, refit: LayerRefit) => Promise<void>,
    /** Hidden states of the model pruned so far; of the original model up to the first window. */
    readonly pruned: LayerInputs,
    private readonly walks: boolean,
  ) {}

  /**
   * @param onHealed takes ownership of the new weights of a healed layer.
   * @param walks whether fits walk through the removed layers of the original model.
   */
  static async open(
    context: RepairContext,
    windows: readonly Window[],
    onHealed: (layer: number, refit: LayerRefit) => Promise<void>,
    walks: boolean,
  ): Promise<RepairInputs> {
    const pruned = await LayerInputs.open(context.model, context.batches, context, 'states');
    return new RepairInputs(context, windows, onHealed, pruned, walks);
  }

  /** The original model's inputs of the layer before the window, which a fit may move on. */
  get walker(): LayerInputs | undefined {
    return this.#walker;
  }

  async #setWalker(from: LayerInputs): Promise<void> {
    this.#walker?.dispose();
    this.#walker = undefined;
    if (this.walks) this.#walker = await from.copy();
  }

  /**
   * Moves the pruned model to the inputs of the layer before a window.
   *
   * @returns the targets of its fit: the original model's hidden states after the window.
   */
  async arriveAt(window: Window): Promise<LayerInputs> {
    const { pruned, windows, context } = this;
    const { heal, unprunedInputs } = context.settings;
    const next = lastRemoved(window) + 1;
    const previous = windows[windows.indexOf(window) - 1];
    if (this.#original && previous) {
      if (heal) await this.#heal(this.#original, previous, window.layer);
      else await pruned.advance(window.layer);
      if (this.walks) await this.#original.advance(window.layer);
      await this.#setWalker(this.#original);
      await this.#original.advance(next);
      return this.#original;
    }
    const later = heal ? this.#healedOutputs() : windows.map(lastRemoved);
    if (!unprunedInputs) context.states?.retain([window.layer - 1, next - 1, ...later]);
    // The selection left buffers of other sizes in the pool than a fit needs.
    context.model.device.memory.trim();
    await pruned.advance(window.layer);
    await this.#setWalker(pruned);
    this.#original = await pruned.ahead(next);
    return this.#original;
  }

  /** Heals all layers after the last window. */
  async healRest(): Promise<void> {
    const { layers } = this.context.model.arch;
    if (this.#original) await this.#heal(this.#original, this.windows.at(-1)!, layers);
  }

  /** Heals the layers after a window, up to layer `end`. */
  async #heal(original: LayerInputs, window: Window, end: number): Promise<void> {
    const { journal = noJournal, phases, settings } = this.context;
    const keepsMlp = settings.heal === 'o-proj';
    using _phase = phases?.enter('heal');
    for (let layer = lastRemoved(window) + 1; layer < end; layer++) {
      const refit = await journal.step(`layer ${layer}`, () =>
        healLayer(original, this.pruned, layer, keepsMlp),
      );
      await this.onHealed(layer, refit);
    }
  }

  /** Layers whose original outputs healing needs: those after the first window's layer, of other windows only the last. */
  #healedOutputs(): number[] {
    const { windows, context } = this;
    return Array.from({ length: context.model.arch.layers }, (_, layer) => layer).filter(
      at => at > windows[0]!.layer && !windows.some(({ layer, count }) => layer <= at && at < layer + count),
    );
  }

  [Symbol.dispose](): void {
    this.#walker?.dispose();
    this.#original?.dispose();
    this.pruned.dispose();
  }
}
