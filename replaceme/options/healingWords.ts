import { entryOf } from '../../engine/index.js';
import type { TrainingOptions, TrainMode } from './trainingSettings.js';
import { trainModes } from './trainingSettings.js';
import type { ValueType } from './valueTypes.js';

/**
 * Closed-form healing: of o_proj and down_proj (true), of o_proj alone, or of what leaves the smaller KL on held-out
 * calibration tokens ("auto").
 */
export type ClosedFormHealing = boolean | 'o-proj' | 'auto';

/** Healing after the repair: in closed form, by gradient descent towards the unpruned model, or the one and then the other. */
export interface PruneHealing {
  /** Refits o_proj and down_proj, or o_proj alone, of the layers after the cut by ridge regression. */
  closedForm?: ClosedFormHealing;
  /** Trains on the calibration texts. */
  gradient?: GradientHealingOptions;
}

/** Training towards the unpruned model. */
export interface GradientHealingOptions extends TrainingOptions {
  train: TrainMode;
}

/** Closed-form healing in words, each with what it stands for. */
const closedForms = { 'closed-form': true, 'o-proj': 'o-proj', auto: 'auto' } as const;

/** "none", "closed-form", "transform:300" or "o-proj,full:100"; undefined for anything else. */
export function readHealing(text: string): PruneHealing | undefined {
  if (text === 'none') return { closedForm: false };
  const words = text.split(',').map(word => word.trim());
  const found = entryOf<ClosedFormHealing>(closedForms, words[0]!);
  const closedForm = found !== undefined && { closedForm: found };
  const [word, ...more] = closedForm ? words.slice(1) : words;
  if (more.length > 0) return undefined;
  if (word === undefined) return closedForm || undefined;
  const [, mode, steps] = /^([a-z-]+)(?::([1-9]\d{0,8}))?$/.exec(word) ?? [];
  const train = trainModes.find(known => known === mode);
  return (
    train && { ...closedForm, gradient: { train, ...(steps !== undefined && { steps: Number(steps) }) } }
  );
}

/** The words that `readHealing` reads back, without settings of the training but its steps. */
export function writeHealing({ closedForm, gradient }: PruneHealing): string {
  const training = gradient && `${gradient.train}${gradient.steps === undefined ? '' : `:${gradient.steps}`}`;
  const words = Object.entries(closedForms).filter(([, healed]) => healed === closedForm);
  return [...words.map(([word]) => word), ...(training ? [training] : [])].join(',') || 'none';
}

/** Healing; as text in the words above. */
export const healing: ValueType<PruneHealing> = {
  needs:
    'none, closed-form, o-proj, auto, transform:STEPS, down-proj:STEPS or full:STEPS, or closed-form,transform:STEPS',
  accepts: value => typeof value === 'object' && value !== null && !Array.isArray(value),
  read: readHealing,
  write: writeHealing,
  choices: ['none', ...Object.keys(closedForms), ...trainModes],
  schema: { type: 'object' },
};

/** Closed-form healing as the library's calls have it. */
export const closedFormHealing: ValueType<ClosedFormHealing> = {
  needs: 'one of: true, false, o-proj, auto',
  accepts: value => value === false || Object.values(closedForms).some(healed => healed === value),
  read: word => entryOf({ true: true, false: false, 'o-proj': 'o-proj', auto: 'auto' } as const, word),
  schema: { enum: [false, ...Object.values(closedForms)] },
};
