import { existsSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { formatBytes } from '../../engine/index.js';
import { type SyntheticModel, writeSyntheticCheckpoint } from '../syntheticCheckpoint.js';
import type { StepRun } from './stepRun.js';

/** The model that the check makes up: a Llama of 1.2 billion weights, on a software adapter one of 0.8 million. */
export const syntheticModel = (software: boolean): SyntheticModel => {
  const seed = 1;
  return software
    ? {
        layers: 6,
        hidden: 128,
        intermediate: 256,
        heads: 4,
        kvHeads: 2,
        vocab: 512,
        contextLength: 1024,
        seed,
      }
    : {
        ...{ layers: 16, hidden: 2048, intermediate: 8192, heads: 32, kvHeads: 8, vocab: 128_256 },
        ...{ contextLength: 8192, shards: 2, seed },
      };
};

/** A pruned copy, its parts and what a run keeps need about as much again, three times. */
const ROOM = 4;
const BYTES_OF_ONE_BILLION = 2.5e9;

/**
 * The folder of the made-up model, written by the first step that needs it; undefined where the disk has no room.
 *
 * @throws RmError OUTPUT_FAILED.
 */
export async function syntheticFolder(run: StepRun, software: boolean): Promise<string | undefined> {
  const folder = join(run.input.folder, 'model');
  if (existsSync(join(folder, 'generation_config.json'))) return folder;
  const { bavail, bsize } = statfsSync(run.input.folder);
  const needed = software ? 0 : ROOM * BYTES_OF_ONE_BILLION;
  if (bavail * bsize < needed) {
    run.note(
      `the made-up model needs ${formatBytes(needed)} in ${run.input.folder}, ${formatBytes(bavail * bsize)} are free: set TMPDIR to a larger disk`,
    );
    return undefined;
  }
  run.at('writing the made-up model');
  await writeSyntheticCheckpoint(folder, syntheticModel(software));
  return folder;
}
