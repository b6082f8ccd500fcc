import type { PruneOptions } from '../../replaceme/index.js';
import {
  budgetSettings,
  pruneSettings,
  recipeSettings,
  reportSettings,
  runSettings,
  statisticsSettings,
} from '../../replaceme/options/pruneSettings.js';
import { declare, listed, setting } from '../../replaceme/options/setting.js';
import { onOff, text } from '../../replaceme/options/valueTypes.js';
import { type Flags, libraryOptions } from '../options/settings.js';

/** Flags of `prune`, from the command line or a configuration file; those that the command itself reads have a type. */
export interface PruneFlags extends Flags {
  readonly model?: string;
  readonly out?: string;
  readonly calib?: readonly string[];
  readonly calibTask?: readonly string[];
  readonly statistics?: string;
  readonly force?: boolean;
  readonly adapter?: string;
  readonly memoryLimit?: number;
  readonly dryRun?: boolean;
  readonly assumeDevice?: string;
  readonly devices?: string;
}

/** The flags that say what the removal of layers may cost, or how large the result may be. */
export const budgetFlags = ['maxKl', 'keepTop1', 'targetSize', 'targetParameters'] as const;

/** The two models of `prune`, which are arguments of the command, and fields of a configuration file. */
export const modelSettings = declare('Models:', {
  model: setting(text, { takes: 'model', help: 'the model to prune' }),
  out: setting(text, { takes: 'out', help: 'the folder or .gguf file to write' }),
});

/** What the command alone understands. */
export const commandSettings = declare('Run:', {
  dryRun: setting(onOff, { help: 'print the plan with memory and time, and do nothing' }),
  assumeDevice: setting(text, {
    takes: 'card',
    help: 'with dry-run: plan for a card that is not here, such as h100 or 4090',
    details:
      'Or a JSON file with its name, memory ("24GB"), matmulGflops and uploadGigabytes, and hostMemory where that matters. The model may be a folder with config.json alone.',
  }),
  devices: setting(text, {
    takes: 'names',
    help: 'all, or names of adapters with commas: each sums over a part of the tokens',
  }),
});

/** What a configuration file may say. */
export const configSettings = [
  ...listed(modelSettings),
  ...pruneSettings.filter(({ ofTheRun }) => !ofTheRun),
  ...listed(commandSettings),
];

/** The options of `prune` in the order of its help; `recipeSettings`, which other commands take too, come first. */
export const commandOptions = [
  ...recipeSettings,
  ...listed(budgetSettings, statisticsSettings, reportSettings, commandSettings),
  ...listed({
    ...runSettings,
    force: { ...runSettings.force, help: 'replace an earlier output, and an earlier trace of --profile' },
  }),
];

/** Flags as `prune` takes them. */
export const pruneOptions = (flags: Flags): PruneOptions => libraryOptions(pruneSettings, flags);
