import { sha256OfJson } from '../../engine/index.js';
import { modelFingerprint, type TextReader, tokenizerFingerprint } from '../../model/index.js';
import type { CalibrationBatch } from '../calibration/calibrationBatch.js';
import type { Calibration } from '../calibration/readCalibration.js';
import type { CalibrationSizes } from '../calibration/sizes.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import type { Recipe } from '../run/recipe.js';
import { SHARD, type Shard, shardName, WHOLE } from './shard.js';

/** Everything that statistics depend on and that is known before the model generates any text. */
export async function statisticsRecipe(
  model: string,
  { files }: Calibration,
  options: PruneOptions,
  { tokens, sequenceLength, batchTokens }: CalibrationSizes,
  { chat }: TextReader,
  shard: Shard = WHOLE,
): Promise<Recipe> {
  return {
    [SHARD]: shardName(shard),
    model: await modelFingerprint(model),
    tokenizer: await tokenizerFingerprint(model),
    'calibration files': files.map(({ sha256 }) => sha256),
    'weights of the files': files.map(({ weight }) => weight),
    'number of tokens': tokens,
    'sequence length': sequenceLength,
    'number of tokens at a time': batchTokens,
    'number type of the weights': options.dtype,
    'share of masked tokens': options.mask,
    'number of generated tokens': options.generate,
    'seed of masks and generated text':
      options.mask === undefined && options.generate === undefined ? undefined : options.seed || undefined,
    'use of faithful': options.faithful ?? false,
    'date of the chat template': chat.date,
  };
}

/** The token ids: another template or packing gives other ids for the same files. */
export const batchesRecipe = (batches: readonly CalibrationBatch[]): Recipe => ({
  'token ids': sha256OfJson(batches),
});
