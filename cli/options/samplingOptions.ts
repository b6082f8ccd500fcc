import type { Command } from 'commander';
import type { SamplingOptions } from '../../model/generation/sampler.js';
import { notNegative, probability, wholeNumber } from './optionTypes.js';

/** How tokens are chosen, as the command line gives it. */
export interface SamplingFlags {
  maxTokens: number;
  temperature: number;
  topK?: number;
  topP?: number;
  seed: number;
}

/** The options of commands that make text; `maxTokens` is the default of --max-tokens. */
export const withSamplingOptions = (command: Command, maxTokens: number): Command =>
  command
    .option('--max-tokens <count>', 'new tokens at most', wholeNumber(1), maxTokens)
    .option('--temperature <number>', '0 takes the most likely token', notNegative, 0)
    .option('--top-k <count>', 'draw from the k most likely tokens only', wholeNumber(1))
    .option('--top-p <share>', 'draw from the most likely tokens that reach this probability', probability)
    .option('--seed <number>', 'seed of the drawing', wholeNumber(0), 0);

/** The same for the model. */
export const samplingOf = ({
  maxTokens,
  temperature,
  topK,
  topP,
  seed,
}: SamplingFlags): SamplingOptions & { maxTokens: number } => ({
  ...{ maxTokens, temperature, seed },
  ...(topK !== undefined && { topK }),
  ...(topP !== undefined && { topP }),
});
