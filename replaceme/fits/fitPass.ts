import type { Scope, Tensor } from '../../engine/index.js';
import { add, matmul } from '../../kernels/index.js';
import {
  type Batch,
  LayerSteps,
  type LayerTensors,
  type MlpFeatures,
  type Model,
} from '../../model/index.js';
import type { LayerInputs } from '../activations/layerInputs.js';
import type { CalibrationBatch } from '../calibration/calibrationBatch.js';
import { forEachBatch } from '../calibration/forEachBatch.js';
import { dividedByNorm } from './dividedByNorm.js';

interface FitTensors extends Omit<LayerTensors, 'mlpFeatures'> {
  /** L_j [T, hidden] of the original model, j the last removed layer. */
  readonly target: Tensor;
}

/** The layer that stays, over all calibration tokens: its inputs in the pruned model, and the targets of its output. */
export class FitPass {
  readonly model: Model;
  /** The layer that stays. */
  readonly layer: number;

  constructor(
    /** Inputs of the layer that stays, in the model pruned so far. */
    readonly inputs: LayerInputs,
    /** L_j of the original model, j the last removed layer. */
    readonly targets: LayerInputs,
    /** The inputs too are the original model's, so that other runs can use the sums. */
    readonly unpruned = true,
    /** Inputs of the layer that stays, in the original model, for a fit that walks through the removed layers. */
    readonly original?: LayerInputs,
  ) {
    this.model = inputs.model;
    this.layer = inputs.depth;
  }

  async #run(index: number, batch: Batch, scope: Scope, before?: Tensor): Promise<FitTensors> {
    const { device } = this.model;
    using _section = device.section('forward');
    const steps = new LayerSteps(this.model, this.layer, batch, scope);
    const layerInput = await this.inputs.input(index, scope);
    const postAttention = steps.postAttention(layerInput, steps.attended(layerInput));
    const mlpFeatures = steps.mlpFeatures(postAttention, layerInput);
    const mlpOutput = before
      ? this.#beforeNorm(steps, scope, mlpFeatures, before)
      : steps.mlpOutput(mlpFeatures);
    const layerOutput = scope.tensor(postAttention.shape, 'f32', 'layer output');
    add(device.recorder, postAttention, mlpOutput, layerOutput);
    const target = await this.targets.state(index, scope);
    return { layerInput, postAttention, mlpOutput, layerOutput, target };
  }

  #beforeNorm(steps: LayerSteps, scope: Scope, features: MlpFeatures, transform: Tensor): Tensor {
    const projected = steps.mlpProjected(features);
    const mapped = scope.tensor(projected.shape, 'f32', 'mapped MLP output');
    matmul(scope.device.recorder, projected, transform, mapped);
    return dividedByNorm(scope, this.model.arch, projected, mapped);
  }

  /**
   * Runs the layer batch by batch; `tensors` live until `visit` settles.
   *
   * @param before a T before the norm behind the MLP: the MLP output is then that before the norm, divided by what the norm
   *   divides by with T in place.
   */
  async forEach(
    visit: (tensors: FitTensors, batch: CalibrationBatch) => Promise<void> | void,
    before?: Tensor,
  ): Promise<void> {
    const { device } = this.model;
    const { options, batches } = this.inputs;
    await this.model.loadLayer(this.layer);
    await forEachBatch(device, options, 'statistics', batches, async ({ index, batch, opened, scope }) =>
      visit(await this.#run(index, opened, scope, before), batch),
    );
  }
}
