import type { Device } from '../../engine/index.js';
import type { RunHooks } from '../run/runHooks.js';
import type { HeldOutPoint, TrainingStep } from '../run/trainingRecord.js';
import { calibrationSettings, deviceSettings, resultSettings } from './pruneSettings.js';
import { declare, listed, setting, type Values } from './setting.js';
import { objectiveSettings, type TrainingOptions, trainingSettings } from './trainingSettings.js';
import { layerList, listOf, onOff, text, wholeNumber } from './valueTypes.js';

/** The teacher, and where the model was cut. */
export const teacherSettings = declare('What is trained:', {
  teacher: setting(text, { takes: 'model', help: 'the model before pruning' }),
  layers: setting(layerList, {
    flag: 'layer',
    takes: 'layers',
    otherwise: 'as report.json says',
    help: 'patched layers',
    details: 'Counted in the pruned model. Not with `full`.',
  }),
});

/** Texts to train and to measure on. */
export const healingTextSettings = declare('Texts:', {
  data: setting(listOf(text), {
    takes: 'files',
    required: true,
    help: 'texts to train on',
    details: '.jsonl, .json, .txt or .parquet.',
  }),
  textField: calibrationSettings.textField,
  skipInvalid: calibrationSettings.skipInvalid,
  date: calibrationSettings.date,
  tokens: setting(wholeNumber(2), {
    takes: 'count',
    otherwise: 'as many as all steps use',
    help: 'training tokens to read at most',
  }),
  sequenceLength: setting(wholeNumber(2), {
    takes: 'count',
    default: 1024,
    help: 'tokens of the longest sequence',
    details: "At most the model's context and a batch.",
  }),
  heldOut: setting(listOf(text), {
    flag: 'eval',
    takes: 'files',
    otherwise: 'every tenth document of the training texts',
    help: 'held-out texts to measure on',
    details: 'By default those documents are measured on and not trained on.',
  }),
  heldOutTokens: setting(wholeNumber(2), {
    flag: 'eval-tokens',
    takes: 'count',
    otherwise: 'by the device',
    help: 'held-out tokens at most',
    details: '16,384 on a GPU, else 2,048.',
  }),
});

/** How the run is kept and written. */
export const healingRunSettings = declare('Run:', {
  checkpoint: setting(text, {
    takes: 'file',
    otherwise: 'OUT.checkpoint.safetensors',
    help: 'file that keeps the run for a resume',
    ofTheRun: true,
  }),
  checkpointEvery: setting(wholeNumber(0), {
    takes: 'count',
    default: 50,
    help: 'steps between checkpoints, 0 for none',
    ofTheRun: true,
  }),
  resume: setting(onOff, { help: 'continue from the checkpoint, if there is one', ofTheRun: true }),
  finish: setting(onOff, { help: 'write the model of the checkpoint without further steps; needs resume' }),
  maxShardBytes: setting(resultSettings.maxShardBytes.type, { ...resultSettings.maxShardBytes, flag: false }),
  force: setting(onOff, { help: "replace an earlier output, and an earlier run's checkpoint" }),
});

/** All settings of `heal`, in the order of its help. */
export const healSettings = listed(
  objectiveSettings,
  teacherSettings,
  healingTextSettings,
  trainingSettings,
  healingRunSettings,
  deviceSettings,
);

/** Settings of `heal`; docs/options.md describes each. */
export interface HealOptions
  extends TrainingOptions,
    Values<typeof objectiveSettings>,
    Values<typeof teacherSettings>,
    Values<typeof healingTextSettings>,
    Values<typeof healingRunSettings>,
    Values<typeof deviceSettings>,
    RunHooks {
  /** Texts to train on: .jsonl, .json, .txt or .parquet. */
  data: readonly string[];
  /** Is told every step and every measurement; a resumed run begins with those that it has from before. */
  onRecord?: (record: TrainingStep | HeldOutPoint) => void;
  /** The words of the command line, for the report, where it is one. */
  command?: readonly string[];
  /** An open device to use; it is left open. */
  device?: Device;
}
