import { ensure, noJournal } from '../../engine/index.js';
import type { Model, WeightChanges } from '../../model/index.js';
import type { PrunedModel } from '../activations/prunedModel.js';
import type { Calibration } from '../calibration/readCalibration.js';
import type { RunHooks } from '../run/runHooks.js';
import type { Window } from '../run/window.js';
import { type HealingRecord, healByGradient } from './gradientHealing.js';
import type { HealingSettings } from './healingSettings.js';
import { patchedLayers } from './patchedLayers.js';

/** A pruned model in memory, its original, and the inputs of its training. */
interface HealingOfPruned extends RunHooks {
  readonly pruned: PrunedModel;
  readonly original: Model;
  readonly windows: readonly Window[];
  readonly calibration: Calibration;
  readonly heldOut: readonly (readonly number[])[];
  readonly settings: HealingSettings;
}

/**
 * Heals a pruned model by gradient towards the original, on the calibration texts, and puts the new weights into `pruned`.
 *
 * @throws RmError INVALID_ARGUMENT where no layer stays before a window or there is no text to train on; as
 *   healByGradient.
 */
export async function healPruned({
  pruned,
  original,
  windows,
  calibration,
  heldOut,
  settings,
  ...hooks
}: HealingOfPruned): Promise<HealingRecord> {
  const { keep } = pruned;
  const layers = settings.train === 'full' ? [] : patchedLayers(windows, keep);
  ensure(
    settings.train === 'full' || layers.length === windows.length,
    'the first layer is removed, so no layer stays before it whose output could be trained',
    'Keep layer 0, or train all weights (`heal.gradient.train: full`).',
  );
  const training = calibration.sequences
    .filter(({ ids }) => ids.length > 1)
    .map(({ ids, source }) => ({ ids, weight: calibration.files[source]?.weight ?? 1 }));
  ensure(training.length > 0, 'no calibration sequence has two tokens', 'Give more calibration text.');
  const { journal = noJournal } = hooks;
  const { changes, record } = await journal.step('healing by gradient', () =>
    healByGradient({
      ...{ model: pruned.model, teacher: original, layers, training, heldOut, settings },
      ...hooks,
    }),
  );
  pruned.change(renumbered(changes, keep));
  return record;
}

/** Renumbers layers to those of the original model. */
const renumbered = (
  { layers = new Map(), ...outer }: WeightChanges,
  keep: readonly number[],
): WeightChanges => ({
  ...outer,
  layers: new Map([...layers].map(([layer, weights]) => [keep[layer]!, weights])),
});
