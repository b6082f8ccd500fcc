import { type Device, Scope, Tensor } from '../../engine/index.js';
import { type Architecture, hasLinearLayers } from '../architecture/architecture.js';
import { type LinearMixer, stateSizes } from '../architecture/mixer.js';

/** What a layer without attention keeps of the tokens so far, by what it is: f32 [places, numbers] (see `stateSizes`). */
export type LinearStates = Readonly<Record<string, Tensor>>;

/** The states of all layers without attention; there is memory for the places that were asked for. */
export class CachedStates {
  #places = 0;
  #scope: Scope;
  #layers: readonly (LinearStates | undefined)[] = [];

  constructor(
    private readonly device: Device,
    private readonly arch: Architecture,
  ) {
    this.#scope = new Scope(device);
  }

  of(layer: number): LinearStates | undefined {
    return this.#layers[layer];
  }

  /** Makes memory for so many places. @throws RmError OUT_OF_MEMORY; nothing is then changed. */
  hold(places: number): void {
    if (places <= this.#places || !hasLinearLayers(this.arch)) return;
    const rows = 2 ** Math.ceil(Math.log2(places));
    const scope = new Scope(this.device);
    const make = (mixer: LinearMixer, old: LinearStates | undefined): LinearStates => {
      const sizes = Object.entries(stateSizes(this.arch, mixer));
      return Object.fromEntries(
        sizes.map(([what, size]) => {
          const tensor = scope.tensor([rows, size], 'f32', `state ${what}`);
          if (old) this.device.recorder.copy(old[what]!, tensor.rows(0, this.#places));
          return [what, tensor];
        }),
      );
    };
    try {
      this.#layers = this.arch.linear.map((mixer, layer) =>
        mixer ? make(mixer, this.#layers[layer]) : undefined,
      );
    } catch (error) {
      scope.dispose();
      throw error;
    }
    this.#scope.dispose();
    this.#scope = scope;
    this.#places = rows;
  }

  /** Gives place `to` the states of place `from`. */
  copy(from: number, to: number): void {
    this.hold(Math.max(from, to) + 1);
    const { recorder } = this.device;
    for (const states of this.#layers) {
      for (const tensor of Object.values(states ?? {})) {
        // WebGPU copies nothing within one buffer.
        using between = Tensor.create(this.device, [1, tensor.columns], 'f32', 'states');
        recorder.copy(tensor.rows(from, 1), between);
        recorder.copy(between, tensor.rows(to, 1));
      }
    }
  }

  dispose(): void {
    this.#scope.dispose();
  }
}
