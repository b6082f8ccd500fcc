import { type Device, ensure } from '../../engine/index.js';
import type { PaceStore } from '../run/paces.js';
import type { RunHooks } from '../run/runHooks.js';
import {
  type budgetSettings,
  type calibrationSettings,
  cosineSettings as cosineTable,
  type deviceSettings,
  type faithfulSettings,
  type layerSettings,
  type methodSettings,
  type repairSettings,
  type reportSettings,
  type resultSettings,
  type runSettings,
  type statisticsSettings,
} from './pruneSettings.js';
import { checkValues, listed, type Values } from './setting.js';

/** Settings of some methods; docs/options.md says which method reads which. */
export interface MethodOptions extends Values<typeof methodSettings> {
  /** ReplaceMe's cosine fit, where it differs from the paper's. */
  cosine?: Partial<CosineSettings>;
}

/** Settings of ReplaceMe's cosine fit; docs/options.md describes each. */
export interface CosineSettings extends Readonly<Required<Values<typeof cosineTable>>> {}

/** Settings of `prune`; docs/options.md describes each. Layers are counted from 0. */
export interface PruneOptions
  extends RunHooks,
    Values<typeof layerSettings>,
    Values<typeof budgetSettings>,
    Values<typeof repairSettings>,
    MethodOptions,
    Values<typeof faithfulSettings>,
    Values<typeof calibrationSettings>,
    Values<typeof resultSettings>,
    Values<typeof statisticsSettings>,
    Values<typeof reportSettings>,
    Values<typeof runSettings>,
    Values<typeof deviceSettings> {
  /** The words of the command line, for the report, where it is one. */
  command?: readonly string[];
  /** An open device to use; it is left open. */
  device?: Device;
  /** Remembers how long runs took, so that later ones of their kind are planned better. */
  paces?: PaceStore;
}

/** Fills in the defaults. @throws RmError INVALID_ARGUMENT for a value out of range, or two that disagree. */
export function cosineSettings(options: Partial<CosineSettings> = {}): CosineSettings {
  const table = listed(cosineTable);
  const defaults = Object.fromEntries(table.map(({ path, default: value }) => [path.at(-1), value]));
  const settings = { ...defaults, ...options } as CosineSettings;
  checkValues(table, { cosine: settings });
  ensure(
    settings.scale === 'paper' || settings.equation === 8,
    'Eq. 7 fits the scale of T itself',
    'Use `cosine.scale: least-squares` with `cosine.equation: 8`.',
  );
  return settings;
}

/** The number type of the result, where one is given. */
export const dtypeOf = ({ dtype }: PruneOptions): Pick<PruneOptions, 'dtype'> =>
  dtype === undefined ? {} : { dtype };

/** Whether there are calibration texts besides what the model writes and what ships with the package. */
export const givesTexts = ({ calibration, calibrationTasks }: PruneOptions): boolean =>
  !!calibration?.length || !!calibrationTasks?.length;
