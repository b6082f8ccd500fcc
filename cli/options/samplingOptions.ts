import type { Command } from 'commander';
import { formatNumber } from '../../engine/format.js';
import type { SamplingOptions } from '../../model/generation/sampler.js';
import { notNegative, positive, probability, wholeNumber } from './optionTypes.js';

/** How tokens are chosen, as the command line gives it. */
export interface SamplingFlags {
  maxTokens: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  repeatPenalty?: number;
  seed: number;
}

/** The options of commands that make text; `maxTokens` is the default of --max-tokens. */
export const withSamplingOptions = (command: Command, maxTokens: number): Command =>
  command
    .option('--max-tokens <count>', 'new tokens at most', wholeNumber(1), maxTokens)
    .option(
      '--temperature <number>',
      '0 takes the most likely token (default: as generation_config.json says, else 0)',
      notNegative,
    )
    .option('--top-k <count>', 'draw from the k most likely tokens only (0: all)', wholeNumber(0))
    .option('--top-p <share>', 'draw from the most likely tokens that reach this probability', probability)
    .option(
      '--repeat-penalty <factor>',
      'makes tokens that the text already has less likely, 1.1 say (1: none)',
      positive,
    )
    .option('--seed <number>', 'seed of the drawing', wholeNumber(0), 0);

const names = { temperature: 'temperature', topK: 'top-k', topP: 'top-p', repeatPenalty: 'repeat penalty' };

/** "temperature 0.7, top-p 0.9" */
export const describeSampling = (sampling: SamplingOptions): string =>
  Object.entries(names)
    .map(([key, name]) => [name, sampling[key as keyof SamplingOptions]] as const)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name} ${Number(formatNumber(value!, 6))}`)
    .join(', ');

/**
 * The same for a model: the command line over its generation_config.json, which `fromFile` holds alone.
 *
 * @throws RmError CONFIG_INVALID for a value in that file that is out of range.
 */
export async function samplingOf(
  model: string,
  { maxTokens, temperature, topK, topP, repeatPenalty, seed }: SamplingFlags,
): Promise<{ sampling: SamplingOptions & { maxTokens: number }; fromFile: SamplingOptions }> {
  const { generationDefaults } = await import('../../model/generation/generationDefaults.js');
  const given = {
    ...(temperature !== undefined && { temperature }),
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
    ...(repeatPenalty !== undefined && { repeatPenalty }),
  };
  const fromFile = await generationDefaults(model, given);
  return { sampling: { maxTokens, seed, ...fromFile, ...given }, fromFile };
}
