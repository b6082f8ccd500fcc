import { RmError } from '../../engine/index.js';
import { type TrainMode, trainModes } from '../options/healOptions.js';

/** What the words of `--heal` ask for. */
export interface AskedHealing {
  readonly closedForm: boolean;
  readonly gradient?: { readonly train: TrainMode; readonly steps?: number };
}

/**
 * Reads "none", "closed-form", "transform:300", "closed-form,full:100": closed-form healing, or healing by gradient for so
 * many steps, or the one and then the other.
 *
 * @throws RmError INVALID_ARGUMENT for anything else.
 */
export function parseHealing(text: string): AskedHealing {
  if (text === 'none') return { closedForm: false };
  const words = text.split(',').map(word => word.trim());
  const closedForm = words[0] === 'closed-form';
  const [word, ...more] = closedForm ? words.slice(1) : words;
  const [, train, steps] = /^([a-z-]+)(?::([1-9]\d{0,8}))?$/.exec(word ?? '') ?? [];
  const known = trainModes.find(mode => mode === train);
  if (more.length > 0 || (word === undefined ? !closedForm : !known)) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `there is no healing '${text}'`,
      'Choose none, closed-form, transform:STEPS, down-proj:STEPS or full:STEPS, or closed-form,transform:STEPS.',
    );
  }
  return {
    closedForm,
    ...(known && { gradient: { train: known, ...(steps !== undefined && { steps: Number(steps) }) } }),
  };
}
