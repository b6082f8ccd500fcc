import { Scope, Tensor } from '../../engine/index.js';
import { convert } from '../../kernels/index.js';
import type {
  LayerGradients,
  LayerWeights,
  Model,
  ModelGradients,
  WeightChanges,
  Weights,
} from '../../model/index.js';
import { foldTransform } from '../fits/foldTransform.js';
import { identity } from '../fits/identity.js';
import type { TrainMode } from '../options/trainingSettings.js';
import type { TrainedParameter } from './trainingTask.js';

/** A model in training: shares all tensors with `base` except the trained ones, which are f32. */
export interface TrainedWeights extends Disposable {
  readonly parameters: readonly TrainedParameter[];
  readonly model: Model;
  /** The parameters' gradients, where the backward pass expects them. */
  readonly gradients: ModelGradients;
  /** The first trained layer; undefined when the whole model is trained, including the embedding before it. */
  readonly lowest: number | undefined;
  /** The trained weights, f32, by layer of `base`, with maps folded. Call it once; the caller disposes them. */
  release(): Promise<WeightChanges>;
}

/** Weights of one layer that are trained directly. */
type OwnWeights = readonly (keyof LayerWeights)[];

const projection: OwnWeights = ['down', 'downBias'];

/**
 * Copies the weights to train in f32 and allocates their gradients.
 *
 * @param layers patched layers, ascending; ignored when the whole model is trained.
 * @throws RmError OUT_OF_MEMORY.
 */
export async function trainedWeights(
  base: Model,
  train: TrainMode,
  layers: readonly number[],
): Promise<TrainedWeights> {
  const scope = new Scope(base.device);
  try {
    const builder = new TrainedWeightsBuilder(base, scope);
    if (train === 'transform') for (const layer of layers) await builder.transform(layer);
    if (train === 'down-proj') for (const layer of layers) builder.layer(layer, projection);
    if (train === 'full') builder.everything();
    return builder.finish(train);
  } catch (error) {
    scope.dispose();
    throw error;
  }
}

class TrainedWeightsBuilder {
  readonly #parameters: TrainedParameter[] = [];
  readonly #layers = new Map<number, Partial<Record<keyof LayerWeights, Tensor>>>();
  readonly #layerGradients = new Map<number, LayerGradients>();
  #outer: Partial<Omit<Weights, 'layers' | 'vision'>> = {};
  #outerGradients: Omit<ModelGradients, 'layers'> = {};

  constructor(
    private readonly base: Model,
    private readonly scope: Scope,
  ) {}

  /** Adds a map T, at first the identity, after the MLP of layer `layer`. */
  async transform(layer: number): Promise<void> {
    const n = this.base.arch.hidden;
    const values = await identity(this.scope, n, `T of layer ${layer}`);
    const towards = await identity(this.scope, n, 'identity');
    const { gradient } = this.#add({ name: `layer ${layer} mlpMap`, values, decays: true, towards });
    this.#layers.set(layer, { mlpMap: values });
    this.#layerGradients.set(layer, { mlpMap: gradient });
  }

  layer(layer: number, names: OwnWeights): void {
    const weights: Partial<Record<keyof LayerWeights, Tensor>> = {};
    const gradients: Partial<Record<keyof LayerWeights, Tensor>> = {};
    for (const name of names) {
      const stored = this.base.weights.layers[layer]![name];
      if (!stored) continue;
      const { values, gradient } = this.#copied(`layer ${layer} ${name}`, stored);
      weights[name] = values;
      gradients[name] = gradient;
    }
    this.#layers.set(layer, weights);
    this.#layerGradients.set(layer, gradients);
  }

  everything(): void {
    const { embedding, finalNorm, finalNormBias, lmHead, lmHeadBias, layers } = this.base.weights;
    for (const [layer, weights] of layers.entries()) {
      const names = Object.entries(weights).filter(([, tensor]) => tensor instanceof Tensor);
      this.layer(
        layer,
        names.map(([name]) => name as keyof LayerWeights),
      );
    }
    const [table, norm] = [this.#copied('embedding', embedding), this.#copied('final norm', finalNorm)];
    const head = lmHead === embedding ? table : this.#copied('output head', lmHead);
    const bias = finalNormBias && this.#copied('final norm bias', finalNormBias);
    const headBias = lmHeadBias && this.#copied('output head bias', lmHeadBias);
    this.#outer = {
      ...{ embedding: table.values, finalNorm: norm.values, lmHead: head.values },
      ...(bias && { finalNormBias: bias.values }),
      ...(headBias && { lmHeadBias: headBias.values }),
    };
    this.#outerGradients = {
      ...{ embedding: table.gradient, finalNorm: norm.gradient, lmHead: head.gradient },
      ...(bias && { finalNormBias: bias.gradient }),
      ...(headBias && { lmHeadBias: headBias.gradient }),
    };
  }

  finish(train: TrainMode): TrainedWeights {
    const { base, scope } = this;
    const all = Array.from({ length: base.arch.layers }, (_, layer) => layer);
    return {
      parameters: this.#parameters,
      model: base.withLayers(all, { layers: this.#layers, ...this.#outer }),
      gradients: { layers: this.#layerGradients, ...this.#outerGradients },
      lowest: train === 'full' ? undefined : Math.min(...this.#layers.keys()),
      release: async () => {
        const layers = new Map<number, Partial<LayerWeights>>();
        for (const [layer, weights] of this.#layers) {
          const { mlpMap } = weights;
          layers.set(layer, mlpMap ? await foldTransform(base, layer, mlpMap) : weights);
        }
        const changes = { layers, ...this.#outer };
        for (const weights of [...layers.values(), this.#outer]) {
          for (const tensor of Object.values(weights)) if (tensor) scope.release(tensor);
        }
        return changes;
      },
      [Symbol.dispose]: () => scope.dispose(),
    };
  }

  /** A trained f32 copy of a weight. */
  #copied(name: string, stored: Tensor): TrainedParameter {
    const values = this.scope.weights(stored.shape, 'f32', name);
    convert(this.base.device.recorder, stored, values);
    return this.#add({ name, values, decays: stored.shape.length > 1 });
  }

  #add(parameter: Omit<TrainedParameter, 'gradient'>): TrainedParameter {
    const gradient = this.scope.weights(parameter.values.shape, 'f32', `gradient of ${parameter.name}`);
    const added = { ...parameter, gradient };
    this.#parameters.push(added);
    return added;
  }
}
