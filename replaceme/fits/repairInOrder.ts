import { ensure, noJournal, Scope } from '../../engine/index.js';
import type { LayerWeights } from '../../model/index.js';
import { NewWeights } from '../activations/newWeights.js';
import { lastRemoved, removedLayers, type Window } from '../run/window.js';
import { HealingReport } from './closedFormHealing.js';
import { FitPass } from './fitPass.js';
import type { Repair, RepairContext, RepairDetails } from './repair.js';
import { RepairInputs } from './repairInputs.js';
import type { ProjectionPath, RidgePath } from './ridgePath.js';

export interface LayerFit {
  /** New weights of the layer that stays. The caller disposes them. */
  readonly weights: Partial<LayerWeights>;
  readonly details: RepairDetails;
  readonly warnings?: readonly string[];
  /** The held-out losses of all ridges, where held-out tokens chose one. */
  readonly paths?: readonly ProjectionPath[];
}

/** Fits the layer that stays. It may itself move `pass.inputs` past the window, with the new weights. */
type FitLayer = (pass: FitPass, window: Window) => Promise<LayerFit>;

/** @throws RmError INVALID_ARGUMENT when the model's first layer is removed, so that no layer stays before the window. */
export function requireLayerBefore(windows: readonly Window[]): void {
  ensure(
    windows.every(({ layer }) => layer >= 0),
    'the first layer is removed, so no layer stays before it that could be repaired',
    'Keep layer 0, or remove the layers by a method without repair or healing (plain).',
  );
}

/**
 * Repairs windows from the first layer to the last. Each fit takes its inputs from the model pruned so far and its targets
 * from the original one, so that later fits make up for the errors of earlier ones (as GPTAQ does for quantisation,
 * arXiv:2504.02692). `settings.heal` refits the layers after the first cut in the same way. With
 * `settings.unprunedInputs` every fit takes the original model's inputs instead.
 *
 * @param fit undefined where nothing replaces the removed layers.
 * @param options `walks`: fits walk through the removed layers of the original model (FitPass.original).
 * @param fitFromCache fits a window on the original model's inputs from statistics of an earlier run, or returns undefined
 *   when there are none. When it answers for all windows and nothing is healed, no token is run.
 */
export async function repairInOrder(
  context: RepairContext,
  windows: readonly Window[],
  fit?: FitLayer,
  fitFromCache?: (window: Window) => Promise<LayerFit | undefined>,
  { walks = false }: { readonly walks?: boolean } = {},
): Promise<Repair> {
  const { heal, unprunedInputs = false } = context.settings;
  if (!fit && !heal) return { changes: {}, details: {} };
  requireLayerBefore(windows);
  const { model, journal = noJournal } = context;
  const fitted = new FittedLayers(context, windows, heal !== false);
  const report = new FitReport(windows.length);
  const healing = new HealingReport();
  using newWeights = new NewWeights(model, context.spillFile);
  using inputs = await RepairInputs.open(
    context,
    windows,
    async (layer, refit) => {
      await newWeights.add(layer, refit.weights);
      healing.add(layer, refit);
      fitted.next();
    },
    walks,
  );
  for (const [w, window] of windows.entries()) {
    const unpruned = w === 0 || unprunedInputs;
    const goesOn = !unprunedInputs && (heal || w + 1 < windows.length);
    using fresh = new Scope(model.device);
    // A journal step: on resume the statistics file may hold more than it did at first.
    let layerFit =
      unpruned && fitFromCache ? await journal.step('cached fit', () => fitFromCache(window)) : undefined;
    ownWeights(fresh, layerFit);
    if (!layerFit || goesOn) {
      const targets = await inputs.arriveAt(window);
      const { pruned } = inputs;
      if (!layerFit && fit) {
        layerFit = await journal.step('fit', () =>
          fit(new FitPass(pruned, targets, unpruned, inputs.walker), window),
        );
        ownWeights(fresh, layerFit);
      }
      if (goesOn && pruned.depth === window.layer) {
        await pruned.step(layerFit?.weights ?? {}, lastRemoved(window) + 1);
      }
    }
    fitted.next();
    if (!layerFit) continue;
    fresh.releaseAll();
    await newWeights.add(window.layer, layerFit.weights);
    report.add(window.layer, layerFit);
  }
  if (heal) await inputs.healRest();
  return {
    changes: newWeights.release(),
    details: { ...report.details, ...(heal && healing.details()) },
    warnings: report.warnings,
    ridgePaths: [...report.paths, ...healing.paths].sort((a, b) => a.layer - b.layer),
  };
}

function ownWeights(scope: Scope, layerFit: LayerFit | undefined): void {
  for (const tensor of Object.values(layerFit?.weights ?? {})) if (tensor) scope.own(tensor);
}

/** Tells how many of the layers before windows, and of those that healing refits, are done. */
class FittedLayers {
  readonly #total: number;
  #done = -1;

  constructor(
    private readonly context: RepairContext,
    windows: readonly Window[],
    heal: boolean,
  ) {
    const { layers } = context.model.arch;
    const removed = removedLayers(windows);
    const after = layers - lastRemoved(windows[0]!) - 1;
    const healed = after - (removed.length - windows[0]!.count) - (windows.length - 1);
    this.#total = windows.length + (heal ? healed : 0);
    this.next();
  }

  next(): void {
    this.#done++;
    this.context.onProgress?.({ phase: 'fit', done: this.#done, total: this.#total, unit: 'layers' });
  }
}

/** Collects the results of all windows' fits for the report. */
class FitReport {
  readonly details: Record<string, number | string> = {};
  readonly warnings: string[] = [];
  readonly paths: RidgePath[] = [];

  constructor(private readonly windows: number) {}

  add(layer: number, { details, warnings = [], paths = [] }: LayerFit): void {
    this.warnings.push(...warnings);
    for (const path of paths) this.paths.push({ layer, purpose: 'fit', ...path });
    const prefix = this.windows > 1 ? `${layer}: ` : '';
    for (const [name, value] of Object.entries(details)) this.details[prefix + name] = value;
  }
}
