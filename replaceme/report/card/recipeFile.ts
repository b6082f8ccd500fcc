import { basename } from 'node:path';
import { modelName } from '../../../model/index.js';
import { writeHealing } from '../../options/healingWords.js';
import type { PruneOptions } from '../../options/pruneOptions.js';
import { healingParts, pruneSettings, repairSettings } from '../../options/pruneSettings.js';
import { type DeclaredSetting, listed, settingValue } from '../../options/setting.js';
import { text } from '../../options/valueTypes.js';
import type { PruneReport } from '../schema/schema.js';
import { yamlText } from '../text/markdown.js';
import { pathArgument } from '../text/shellWord.js';
import { shownName } from '../text/shownText.js';

/** Settings that say how a run is kept, and nothing of its result. */
const leftOut = ['force', 'statistics', 'adapter', 'report'];

const lastPart = (path: string): string => {
  const [, task = '', file = path] = /^([\w.-]+=)(.*)$/s.exec(path) ?? [];
  return task + pathArgument(basename(file) || file);
};

/** A value as a configuration file has it; files by their names alone. */
function yamlValue({ type, takes }: DeclaredSetting, value: unknown): string {
  const isPath = takes === 'files' || takes === 'file' || takes === 'task=rows';
  const single = (item: unknown) =>
    typeof item === 'string' ? yamlText(isPath ? lastPart(item) : item) : `${item as number | boolean}`;
  // Layers are one word, 3,5,12..15, rather than a list.
  if (type.item === undefined && Array.isArray(value)) return yamlText(value.join(','));
  if (type.item === undefined) return single(type.write && type !== text ? type.write(value) : value);
  return `[${(value as readonly unknown[]).map(single).join(', ')}]`;
}

/** Options with the defaults that depend on the device filled in. */
const complete = (options: PruneOptions, { method, recipe, healing }: PruneReport): PruneOptions => ({
  ...options,
  ...{
    method,
    tokens: recipe.tokens,
    sequenceLength: recipe.sequenceLength,
    batchTokens: recipe.batchTokens,
  },
  ...(options.heal?.gradient && {
    heal: {
      ...options.heal,
      gradient: {
        ...options.heal.gradient,
        ...(healing && {
          learningRate: healing.settings.learningRate,
          batchTokens: healing.settings.batchTokens,
        }),
      },
    },
  }),
});

const comments = (lines: readonly string[]): string => lines.map(line => `# ${shownName(line)}\n`).join('');

/**
 * The recipe of a prune as a configuration file, with names in place of paths: where model and texts are, `rm-engine
 * prune` makes the same model of it.
 *
 * @param from the model as it was given.
 * @param to the final path of the result.
 */
export function recipeFile(from: string, to: string, options: PruneOptions, report: PruneReport): string {
  const all = complete(options, report);
  const gradientParts = listed(healingParts).filter(({ option }) => option !== undefined);
  const settings = pruneSettings.filter(
    ({ name, option, ofTheRun }) => option !== undefined && !ofTheRun && !leftOut.includes(name),
  );
  const given = settings
    .filter(setting => setting !== repairSettings.heal && !gradientParts.includes(setting))
    .filter(setting => settingValue(setting, all) !== undefined)
    .map(setting => `${setting.option}: ${yamlValue(setting, settingValue(setting, all))}\n`);
  const healing = all.heal && [
    `heal: ${yamlText(writeHealing(all.heal))}\n`,
    ...gradientParts.flatMap(setting => {
      const value = settingValue(setting, all);
      return value === undefined ? [] : [`${setting.option}: ${yamlValue(setting, value)}\n`];
    }),
  ];
  const files = report.calibration.files.map(({ path, sha256 }) => `  ${basename(path)}  sha256 ${sha256}`);
  return [
    comments([
      'A recipe of rm-engine prune. Where the model and these texts are,',
      '  rm-engine prune --config recipe.yaml',
      'makes the same bytes on the same adapter, with the same version.',
      `${report.version}, ${report.adapter.description}`,
      `model fingerprint ${report.model.fingerprint}`,
      ...(files.length > 0 ? ['calibrated on', ...files] : []),
      report.summary,
    ]),
    `model: ${yamlText(pathArgument(modelName(from, { revision: true })))}\n`,
    `out: ${yamlText(pathArgument(basename(to)))}\n`,
    ...given,
    ...(healing ?? []),
  ].join('');
}
