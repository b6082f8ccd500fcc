import type { TrainingOptions, TrainMode } from './trainingSettings.js';
import { trainModes } from './trainingSettings.js';
import type { ValueType } from './valueTypes.js';

/** Healing after the repair: in closed form, by gradient descent towards the unpruned model, or the one and then the other. */
export interface PruneHealing {
  /** Refits o_proj and down_proj of the layers after the cut by ridge regression. */
  closedForm?: boolean;
  /** Trains on the calibration texts. */
  gradient?: GradientHealingOptions;
}

/** Training towards the unpruned model. */
export interface GradientHealingOptions extends TrainingOptions {
  train: TrainMode;
}

/** "none", "closed-form", "transform:300" or "closed-form,full:100"; undefined for anything else. */
export function readHealing(text: string): PruneHealing | undefined {
  if (text === 'none') return { closedForm: false };
  const words = text.split(',').map(word => word.trim());
  const closedForm = words[0] === 'closed-form' && { closedForm: true };
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
  return [...(closedForm ? ['closed-form'] : []), ...(training ? [training] : [])].join(',') || 'none';
}

/** Healing; as text in the words above. */
export const healing: ValueType<PruneHealing> = {
  needs: 'none, closed-form, transform:STEPS, down-proj:STEPS or full:STEPS, or closed-form,transform:STEPS',
  accepts: value => typeof value === 'object' && value !== null && !Array.isArray(value),
  read: readHealing,
  write: writeHealing,
  choices: ['none', 'closed-form', ...trainModes],
  schema: { type: 'boolean' },
};
