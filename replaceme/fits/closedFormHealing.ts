import { noJournal } from '../../engine/index.js';
import { BatchTensors, LayerSteps } from '../../model/index.js';
import type { LayerInputs } from '../activations/layerInputs.js';
import { forEachBatch } from '../calibration/forEachBatch.js';
import { type LayerRefit, refitLayer } from './refitLayer.js';
import type { RepairDetails } from './repair.js';
import type { RidgePath } from './ridgePath.js';

/**
 * Closed-form healing of one layer after the cut: fits o_proj to Y and down_proj to L of the original model, on inputs of
 * the pruned one, each with the ridge that fits the held-out half best. Both inputs stand at `layer` and move past it.
 * The caller disposes the new weights.
 *
 * @param keepsMlp heals o_proj alone, which needs no sums over MLP features.
 */
export async function healLayer(
  original: LayerInputs,
  pruned: LayerInputs,
  layer: number,
  keepsMlp: boolean,
): Promise<LayerRefit> {
  const { model, options, batches } = original;
  const { device } = model;
  using _section = device.section('forward');
  using afterAttention = new BatchTensors(device, options.placement);
  using _tracking = await (options.journal ?? noJournal).track('after attention', afterAttention);
  await model.loadLayer(layer, layer + 1);
  const name = `heal layer ${layer}`;
  await forEachBatch(device, options, name, batches, async ({ batch, index, opened, scope }) => {
    const steps = new LayerSteps(model, layer, opened, scope);
    const input = await original.state(index, scope);
    const y = steps.postAttention(input, steps.attended(input));
    const kept = options.states?.take(batch.sequences, layer);
    const output = kept ?? scope.release(steps.output(y, steps.mlpFeatures(y, input)));
    afterAttention.put(index, scope.release(y));
    original.replace(index, output);
  });
  original.arriveAt(layer + 1, true);
  const refit = await refitLayer(
    pruned,
    {
      output: (index, scope) => original.state(index, scope),
      afterAttention: (index, scope) => afterAttention.get(index, scope),
    },
    { scaled: true, keepsMlp },
  );
  pruned.arriveAt(layer + 1);
  return refit;
}

/** Collects the results of healing for the report. */
export class HealingReport {
  readonly #ridges: string[] = [];
  readonly paths: RidgePath[] = [];
  #solves = 0;
  #refused = 0;
  #last = 0;

  add(layer: number, { attention, mlp, paths, tokenResidual }: LayerRefit): void {
    const found = { o: attention, down: mlp };
    const fits = paths.map(({ projection }) => found[projection]);
    this.#solves += fits.length;
    this.#refused += fits.filter(fit => !fit).length;
    this.#ridges.push(`${layer}: ${fits.map(fit => fit?.ridge ?? 'kept').join('/')}`);
    this.#last = tokenResidual;
    for (const path of paths) this.paths.push({ layer, purpose: 'healing', ...path });
  }

  details(): RepairDetails {
    return {
      healedProjections: this.#solves - this.#refused,
      refusedProjections: this.#refused,
      ...(this.#solves > 0 && { healingRidges: this.#ridges.join(', '), lastTokenResidual: this.#last }),
    };
  }
}
