import { ensure, noJournal, Scope, type Tensor } from '../../engine/index.js';
import { add } from '../../kernels/index.js';
import {
  type Batch,
  LayerSteps,
  type LayerTensors,
  type LayerWeights,
  type Model,
} from '../../model/index.js';
import { LayerInputs } from '../activations/layerInputs.js';
import { NewWeights } from '../activations/newWeights.js';
import { type CalibrationBatch, openBatch, sequencesOf } from '../calibration/calibrationBatch.js';
import { forEachGroup } from '../run/runHooks.js';
import { lastRemoved, type Window } from '../run/window.js';
import { HealingReport, healLayer } from './closedFormHealing.js';
import type { Repair, RepairContext, RepairDetails } from './repair.js';
import type { ProjectionPath, RidgePath } from './ridgePath.js';

export interface FitTensors extends LayerTensors {
  /** L_j [T, hidden] of the original model, j the last removed layer. */
  readonly target: Tensor;
}

/** The layer that stays, over all calibration tokens: what the pruned model gives to it, and what is to come out. */
export class FitPass {
  readonly model: Model;
  /** The layer that stays. */
  readonly layer: number;

  constructor(
    /** At the inputs of the layer that stays, in the model pruned so far. */
    readonly inputs: LayerInputs,
    /** L_j of the original model, j the last removed layer. */
    readonly targets: LayerInputs,
    /** The inputs too are the original model's: what is summed here holds for other runs. */
    readonly unpruned = true,
  ) {
    this.model = inputs.model;
    this.layer = inputs.depth;
  }

  async #run(index: number, batch: Batch, scope: Scope): Promise<FitTensors> {
    const { device } = this.model;
    using _section = device.section('forward');
    const steps = new LayerSteps(this.model, this.layer, batch, scope);
    const layerInput = await this.inputs.input(index, scope);
    const postAttention = steps.postAttention(layerInput, steps.attended(layerInput));
    const mlpFeatures = steps.mlpFeatures(postAttention, layerInput);
    const mlpOutput = steps.mlpOutput(mlpFeatures);
    const layerOutput = scope.tensor(postAttention.shape, 'f32', 'layer output');
    add(device.recorder, postAttention, mlpOutput, layerOutput);
    const target = await this.targets.state(index, scope);
    return { layerInput, postAttention, mlpFeatures, mlpOutput, layerOutput, target };
  }

  /** Runs the layer batch by batch; `tensors` live until what `visit` returns is settled. */
  async forEach(
    visit: (tensors: FitTensors, batch: CalibrationBatch) => Promise<void> | void,
  ): Promise<void> {
    const { inputs } = this;
    const { device } = this.model;
    await this.model.loadLayer(this.layer);
    await forEachGroup(inputs.options, 'statistics', inputs.batches, sequencesOf, async (batch, index) => {
      using scope = new Scope(device);
      using opened = openBatch(device, batch);
      await visit(await this.#run(index, opened, scope), batch);
      await device.recorder.finish();
    });
  }
}

export interface LayerFit {
  /** New weights of the layer that stays. The caller disposes them. */
  readonly weights: Partial<LayerWeights>;
  readonly details: RepairDetails;
  readonly warnings?: readonly string[];
  /** Where its ridges were chosen by held-out tokens. */
  readonly paths?: readonly ProjectionPath[];
}

/** Fits the layer that stays. It may move `pass.inputs` past the window itself, with the new weights. */
export type FitLayer = (pass: FitPass, window: Window) => Promise<LayerFit>;

/** @throws RmError INVALID_ARGUMENT where the model's first layer is removed, so that none stays before a window. */
export function requireLayerBefore(windows: readonly Window[]): void {
  ensure(
    windows.every(({ layer }) => layer >= 0),
    'the first layer is removed: no layer stays before it that could be repaired',
    'Keep layer 0, or remove the layers by a method without repair or healing (plain).',
  );
}

/** Layers whose outputs healing takes from the original model, which passes over all of a window but its end. */
const healedOutputs = (windows: readonly Window[], layers: number): number[] =>
  Array.from({ length: layers }, (_, layer) => layer).filter(
    at => at > windows[0]!.layer && !windows.some(({ layer, count }) => layer <= at && at < layer + count),
  );

function ownWeights(scope: Scope, found: LayerFit | undefined): void {
  for (const tensor of Object.values(found?.weights ?? {})) if (tensor) scope.own(tensor);
}

/**
 * Repairs windows from the first layer to the last: what each fit sees as inputs comes from the model pruned so far,
 * and its targets from the original one, so that later fits make up for what earlier ones have left (as GPTAQ does for
 * quantisation, arXiv:2504.02692). With `settings.heal` the layers after the first cut are refitted likewise.
 *
 * With `settings.unprunedInputs` every fit sees the original model's inputs instead.
 *
 * @param fit undefined where nothing takes the place of the removed layers.
 * @param recall the fit of a window on the original model's inputs from statistics of an earlier run, if there are any:
 *   where it answers for all windows and nothing is healed, no token is looked at.
 */
export async function repairInOrder(
  context: RepairContext,
  windows: readonly Window[],
  fit?: FitLayer,
  recall?: (window: Window) => Promise<LayerFit | undefined>,
): Promise<Repair> {
  const { heal, unprunedInputs = false } = context.settings;
  if (!fit && !heal) return { changes: {}, details: {} };
  requireLayerBefore(windows);
  const { model, journal = noJournal } = context;
  const details: Record<string, number | string> = {};
  const warnings: string[] = [];
  const ridgePaths: RidgePath[] = [];
  using kept = new NewWeights(model, context.spillFile);
  const report = ({ layer }: Window, found: LayerFit) => {
    warnings.push(...(found.warnings ?? []));
    for (const path of found.paths ?? []) ridgePaths.push({ layer, purpose: 'fit', ...path });
    const prefix = windows.length > 1 ? `${layer}: ` : '';
    for (const [name, value] of Object.entries(found.details)) details[prefix + name] = value;
  };
  // The original model up to the first window.
  using pruned = await LayerInputs.open(model, context.batches, context, 'states');
  const healed = new HealingReport();
  let original: LayerInputs | undefined;
  try {
    for (const [w, window] of windows.entries()) {
      const next = lastRemoved(window) + 1;
      const unpruned = w === 0 || unprunedInputs;
      const goesOn = !unprunedInputs && (heal || w + 1 < windows.length);
      using fresh = new Scope(model.device);
      // The statistics of a run that goes on may know more than they did.
      let found = unpruned && recall ? await journal.step('recall', () => recall(window)) : undefined;
      ownWeights(fresh, found);
      if (!found || goesOn) {
        const targets = await arriveAt(window, original, windows[w - 1]);
        original = targets;
        if (!found && fit) {
          found = await journal.step('fit', () => fit(new FitPass(pruned, targets, unpruned), window));
          ownWeights(fresh, found);
        }
        if (goesOn && pruned.depth === window.layer) await pruned.step(found?.weights ?? {}, next);
      }
      if (!found) continue;
      fresh.releaseAll();
      await kept.add(window.layer, found.weights);
      report(window, found);
    }
    if (heal && original) await healBetween(windows.at(-1)!, model.arch.layers, original);
  } finally {
    original?.dispose();
  }
  return {
    changes: kept.release(),
    details: { ...details, ...(heal && healed.details()) },
    warnings,
    ridgePaths: [...ridgePaths, ...healed.paths].sort((a, b) => a.layer - b.layer),
  };

  /** Both streams before the window's fit: its inputs from the model pruned so far, its targets from the original. */
  async function arriveAt(window: Window, original?: LayerInputs, before?: Window): Promise<LayerInputs> {
    const next = lastRemoved(window) + 1;
    if (original && before) {
      if (heal) await healBetween(before, window.layer, original);
      else await pruned.advance(window.layer);
      await original.advance(next);
      return original;
    }
    const later = heal ? healedOutputs(windows, model.arch.layers) : windows.map(lastRemoved);
    if (!unprunedInputs) context.states?.retain([window.layer - 1, next - 1, ...later]);
    // What the selection has left there has other sizes than what a fit needs.
    model.device.memory.trim();
    await pruned.advance(window.layer);
    return await pruned.ahead(next);
  }

  /** The layers behind a window, up to `layer`. */
  async function healBetween(window: Window, layer: number, original: LayerInputs): Promise<void> {
    using _phase = context.phases?.enter('heal');
    for (let at = lastRemoved(window) + 1; at < layer; at++) {
      const refit = await journal.step(`layer ${at}`, () => healLayer(original, pruned, at));
      await kept.add(at, refit.weights);
      healed.add(at, refit);
    }
  }
}
