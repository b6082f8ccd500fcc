import { Scope } from '../../engine/index.js';
import type { Model, WeightChanges } from '../../model/index.js';
import type { Recipe } from '../run/recipe.js';
import type { RunHooks } from '../run/runHooks.js';
import { readCheckpoint, writeCheckpoint } from './checkpointFile.js';
import type { HealingSettings } from './healingSettings.js';
import { HealingTask } from './healingTask.js';
import type { TrainingSequence } from './sequenceOrder.js';
import { trainedWeights } from './trainedWeights.js';
import { train, zeroMoments } from './trainingLoop.js';
import { type HeldOutPoint, skippedSteps, type TrainingStep } from './trainingRecord.js';

/** A run that is kept on disk, so that another can go on with it. */
export interface KeptRun {
  readonly path: string;
  /** What the run depends on. */
  readonly recipe: Recipe;
  /** Goes on from what is there. */
  readonly resume: boolean;
  /** Takes no further step. */
  readonly finish: boolean;
}

/** A model to heal, and by what. */
export interface GradientHealing extends RunHooks {
  readonly model: Model;
  readonly teacher: Model | undefined;
  /** Patched layers, ascending; of no matter where all weights are trained. */
  readonly layers: readonly number[];
  readonly training: readonly TrainingSequence[];
  readonly heldOut: readonly (readonly number[])[];
  readonly settings: HealingSettings;
  readonly kept?: KeptRun | undefined;
}

/** What healing by gradient has done, for reports. */
export interface HealingRecord {
  /** Defaults filled in. */
  readonly settings: HealingSettings;
  /** The patched layers, in the pruned model; empty where all weights were trained. */
  readonly layers: readonly number[];
  /** Numbers that were trained. */
  readonly parameters: number;
  /** Tokens of the texts that were trained on, over and over where the steps used more. */
  readonly tokens: number;
  readonly heldOutTokens: number;
  /** Step after which the run was taken up again the last time, where it was. */
  readonly resumedAt?: number;
  /** Steps that changed nothing, because their loss or gradient was not finite. */
  readonly skipped: number;
  readonly steps: readonly TrainingStep[];
  /** Before the first step, now and then, and after the last one; empty without held-out text. */
  readonly heldOut: readonly HeldOutPoint[];
}

/** A healed model's new weights. */
export interface Healed {
  /** f32, by layers of the model that was healed. The caller disposes them. */
  readonly changes: WeightChanges;
  readonly record: HealingRecord;
}

const sumOf = (values: readonly { readonly length: number }[]): number =>
  values.reduce((sum, { length }) => sum + length, 0);

/**
 * Heals a model in memory by gradient descent; the model itself stays as it is.
 *
 * @throws RmError DIVERGED, OUT_OF_MEMORY; of a kept run as readCheckpoint and writeCheckpoint.
 */
export async function healByGradient(healing: GradientHealing): Promise<Healed> {
  const { model, layers, training, heldOut, settings, kept, teacher, ...walk } = healing;
  const { device } = model;
  using scope = new Scope(device);
  using trained = await trainedWeights(model, settings.train, layers);
  const { parameters } = trained;
  const moments = zeroMoments(scope, parameters);
  const tensors = { parameters, moments };
  const state = kept?.resume ? await readCheckpoint(kept.path, kept.recipe, tensors) : undefined;
  let saved = state?.steps.length ?? 0;
  using task = await HealingTask.of({ trained, teacher, heldOut }, settings, walk);
  const done =
    state && kept?.finish
      ? state
      : await train(device, task, training, moments, settings, {
          ...walk,
          state,
          ...(kept && {
            save: async reached => {
              await writeCheckpoint(kept.path, kept.recipe, reached, tensors);
              saved = reached.steps.length;
            },
          }),
          ...(kept && { remedy: () => remedyFor(kept, saved) }),
        });
  return {
    changes: await trained.release(),
    record: {
      settings,
      layers: settings.train === 'full' ? [] : layers,
      parameters: parameters.reduce((sum, { values }) => sum + values.size, 0),
      tokens: sumOf(training.map(({ ids }) => ids)),
      heldOutTokens: sumOf(heldOut),
      ...(state && { resumedAt: state.steps.length }),
      skipped: skippedSteps(done.steps),
      steps: done.steps,
      heldOut: done.heldOut,
    },
  };
}

function remedyFor(kept: KeptRun, saved: number): string {
  const smaller = 'Use a smaller learning rate (`learningRate`).';
  return saved > 0
    ? `${smaller} The last good checkpoint, of step ${saved}, is in ${kept.path}: \`resume\` with \`finish\` makes a model of it.`
    : `${smaller} It went wrong before the first checkpoint: nothing was kept.`;
}

/** What a user should know of a run, in sentences. */
export function healingWarnings({ skipped, steps, heldOut }: HealingRecord): string[] {
  const [first, last] = [heldOut[0], heldOut.at(-1)];
  const [before, after] = [first?.kl ?? first?.nll ?? 0, last?.kl ?? last?.nll ?? 0];
  const what = first?.kl === undefined ? 'loss' : 'KL';
  return [
    ...(skipped > 0
      ? [`${skipped} of ${steps.length} healing steps changed nothing: their gradient was not finite`]
      : []),
    ...(after > before
      ? [
          `healing by gradient has made the held-out ${what} worse, ${before.toPrecision(4)} to ${after.toPrecision(4)}: use more text, or a smaller learning rate`,
        ]
      : []),
  ];
}
