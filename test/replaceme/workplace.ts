import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { groupSequences } from '../../model/transformer/batch.js';
import type { Model } from '../../model/transformer/model.js';
import type { HiddenStates } from '../../replaceme/activations/hiddenStates.js';
import { LayerInputs } from '../../replaceme/activations/layerInputs.js';
import type { CalibrationBatch } from '../../replaceme/calibration/calibrationBatch.js';
import { FitPass } from '../../replaceme/fits/fitPass.js';
import type { PruneOptions, RepairContext } from '../../replaceme/index.js';
import type { RepairSettings } from '../../replaceme/methods/index.js';
import type { Window } from '../../replaceme/run/window.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';

export const calibrationText = Array.from(
  { length: 60 },
  (_, i) => `Sentence ${i} says that ${i} times ${i} is ${i * i}.`,
).join('\n\n');

/** A folder with a tiny model and a calibration text; `left` lists what is in it. */
export async function workplace(change: Parameters<typeof writeTinyModel>[1] = {}) {
  const folder = temporaryFolder();
  const model = join(folder.path, 'model');
  mkdirSync(model);
  await writeTinyModel(model, change);
  const calibration = join(folder.path, 'calibration.txt');
  writeFileSync(calibration, calibrationText);
  const out = join(folder.path, 'pruned');
  const left = () => readdirSync(folder.path).sort();
  return { ...folder, model, calibration, out, left };
}

/** Two of the tiny model's six layers, by the method with the least to go wrong on random weights. */
export const options = (calibration: string, more: PruneOptions = {}): PruneOptions => ({
  layers: 2,
  method: 'replaceme-ls',
  calibration: [calibration],
  sequenceLength: 64,
  tokens: 1024,
  report: 'full',
  ...more,
});

/** Batches in which all tokens count alike; every second one belongs to half 1. */
export const plainBatches = (
  sequences: readonly (readonly number[])[],
  batchTokens: number,
): CalibrationBatch[] =>
  groupSequences(sequences, batchTokens).map((group, i) => ({
    sequences: group,
    half: i % 2 === 0 ? 0 : 1,
    weight: 1,
  }));

export const repairContext = (
  model: Model,
  batches: readonly CalibrationBatch[],
  settings: Partial<RepairSettings> = {},
): RepairContext => ({ model, batches, settings: { alpha: 0, heal: false, ...settings } });

/** The pass over the layer that stays before a window of the unpruned model; dispose it after use. */
export async function openPass(
  model: Model,
  batches: readonly CalibrationBatch[],
  window: Window,
  states?: HiddenStates,
): Promise<FitPass & Disposable> {
  const inputs = new LayerInputs(model, batches, { states });
  states?.retain([window.layer - 1, window.layer + window.count]);
  await inputs.advance(window.layer);
  const targets = await inputs.ahead(window.layer + window.count + 1);
  return Object.assign(new FitPass(inputs, targets), {
    [Symbol.dispose]() {
      inputs.dispose();
      targets.dispose();
    },
  });
}
