import { Scope } from '../../engine/index.js';
import { type Model, totalTokens, type WeightChanges } from '../../model/index.js';
import type { Recipe } from '../run/recipe.js';
import type { RunHooks } from '../run/runHooks.js';
import { type HeldOutPoint, skippedSteps, type TrainingStep } from '../run/trainingRecord.js';
import { readCheckpoint, writeCheckpoint } from './checkpointFile.js';
import type { HealingSettings } from './healingSettings.js';
import { HealingTask } from './healingTask.js';
import type { TrainingSequence } from './sequenceOrder.js';
import { trainedWeights } from './trainedWeights.js';
import { train, zeroMoments } from './trainingLoop.js';

/** The checkpoint of a run, from which another process can resume. */
interface KeptRun {
  readonly path: string;
  /** Everything that the run depends on. */
  readonly recipe: Recipe;
  /** Resumes from the checkpoint. */
  readonly resume: boolean;
  /** Takes no further step: makes a model of the checkpoint. */
  readonly finish: boolean;
}

/** A model to heal and the inputs of its training. */
interface GradientHealing extends RunHooks {
  readonly model: Model;
  readonly teacher: Model | undefined;
  /** Patched layers, ascending; ignored when all weights are trained. */
  readonly layers: readonly number[];
  readonly training: readonly TrainingSequence[];
  readonly heldOut: readonly (readonly number[])[];
  readonly settings: HealingSettings;
  readonly kept?: KeptRun | undefined;
  readonly onRecord?: ((record: TrainingStep | HeldOutPoint) => void) | undefined;
}

/** The record of a healing by gradient, for reports. */
export interface HealingRecord {
  /** With defaults filled in. */
  readonly settings: HealingSettings;
  /** The patched layers, counted in the pruned model; empty when all weights were trained. */
  readonly layers: readonly number[];
  /** Number of trained parameters. */
  readonly parameters: number;
  /** Tokens of the training texts; longer runs repeat them. */
  readonly tokens: number;
  readonly heldOutTokens: number;
  /** The step after which the run was last resumed. */
  readonly resumedAt?: number;
  /** Number of steps that changed nothing because their loss or gradient was not finite. */
  readonly skipped: number;
  readonly steps: readonly TrainingStep[];
  /** Before the first step, at intervals, and after the last step; empty without held-out text. */
  readonly heldOut: readonly HeldOutPoint[];
}

/** A healed model's new weights. */
export interface Healed {
  /** f32, by layer of the model before healing. The caller disposes them. */
  readonly changes: WeightChanges;
  readonly record: HealingRecord;
}

/**
 * Heals a model in memory by gradient descent; the model itself does not change.
 *
 * @throws RmError DIVERGED, OUT_OF_MEMORY; for a kept run as readCheckpoint and writeCheckpoint.
 */
export async function healByGradient(healing: GradientHealing): Promise<Healed> {
  const { model, layers, training, heldOut, settings, kept, teacher, onRecord, ...hooks } = healing;
  const { device } = model;
  using scope = new Scope(device);
  using trained = await trainedWeights(model, settings.train, layers);
  const { parameters } = trained;
  const moments = zeroMoments(scope, parameters);
  const tensors = { parameters, moments };
  const size = { steps: settings.steps, sequences: training.length };
  const state = kept?.resume ? await readCheckpoint(kept.path, kept.recipe, size, tensors) : undefined;
  let saved = state?.steps.length ?? 0;
  using task = await HealingTask.of({ trained, teacher, heldOut }, settings, hooks);
  const final =
    state && kept?.finish
      ? state
      : await train(device, task, training, moments, settings, {
          ...hooks,
          ...{ state, onRecord },
          ...(kept && {
            save: async current => {
              await writeCheckpoint(kept.path, kept.recipe, current, tensors);
              saved = current.steps.length;
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
      tokens: totalTokens(training.map(({ ids }) => ids)),
      heldOutTokens: totalTokens(heldOut),
      ...(state && { resumedAt: state.steps.length }),
      skipped: skippedSteps(final.steps),
      steps: final.steps,
      heldOut: final.heldOut,
    },
  };
}

function remedyFor(kept: KeptRun, saved: number): string {
  const smaller = 'Use a smaller learning rate (`learningRate`).';
  return saved > 0
    ? `${smaller} The last good checkpoint, of step ${saved}, is in ${kept.path}: \`resume\` with \`finish\` makes a model of it.`
    : `${smaller} The run failed before its first checkpoint, so nothing was kept.`;
}

/** What a user should know about a run, in sentences. */
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
          `healing by gradient made the held-out ${what} worse, from ${before.toPrecision(4)} to ${after.toPrecision(4)}: use more text, or a smaller learning rate`,
        ]
      : []),
  ];
}
