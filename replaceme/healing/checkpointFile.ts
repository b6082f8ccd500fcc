import { existsSync } from 'node:fs';
import { download, ensure, RmError, upload } from '../../engine/index.js';
import {
  isRecord,
  openSafetensorsFile,
  type SafetensorsFile,
  withOutputFile,
  writeSafetensorsFile,
} from '../../model/index.js';
import { firstDifference, type Recipe } from '../run/recipe.js';
import { type LoopState, type Moments, namedTensors } from './trainingLoop.js';
import type { TrainedParameter } from './trainingTask.js';

/** Written into every file; a change of what it means takes another number. */
const FORMAT = 'rm-engine healing 1';

/** The tensors of a run in progress. */
export interface TrainedTensors {
  readonly parameters: readonly TrainedParameter[];
  readonly moments: readonly Moments[];
}

/**
 * Keeps a run: master values, moments, place in the texts and all numbers so far, in one safetensors file that takes the
 * place of the one before as a whole.
 *
 * @throws RmError OUTPUT_FAILED.
 */
export async function writeCheckpoint(
  path: string,
  recipe: Recipe,
  state: LoopState,
  tensors: TrainedTensors,
): Promise<void> {
  const metadata = { format: FORMAT, recipe: JSON.stringify(recipe), state: JSON.stringify(state) };
  const all = namedTensors(tensors.parameters, tensors.moments);
  const sources = Object.entries(all).map(([name, tensor]) => ({
    ...{ name, dtype: 'f32' as const, shape: tensor.shape },
    bytes: () => download(tensor),
  }));
  await withOutputFile(path, { force: true }, temporary =>
    writeSafetensorsFile(temporary, sources, undefined, metadata),
  );
}

/**
 * The state of the run that has left a checkpoint, and its numbers in `tensors`; undefined where there is none.
 *
 * @throws RmError INVALID_ARGUMENT naming what differs where it is of another run, DATA_INVALID for a damaged file.
 */
export async function readCheckpoint(
  path: string,
  recipe: Recipe,
  tensors: TrainedTensors,
): Promise<LoopState | undefined> {
  if (!existsSync(path)) return undefined;
  let file: SafetensorsFile | undefined;
  try {
    file = await openSafetensorsFile(path);
    const { metadata } = file;
    if (metadata.format !== FORMAT) throw damaged(path, `its format is not "${FORMAT}"`);
    const there = JSON.parse(metadata.recipe ?? '') as Recipe;
    const state = JSON.parse(metadata.state ?? '') as LoopState;
    if (!isRecord(there) || !isRecord(state)) throw damaged(path, 'its description is incomplete');
    const difference = firstDifference(there, recipe);
    ensure(
      difference === undefined,
      `${path}: differs from this run in ${difference?.told}`,
      'Give the same model, texts and options as then, or `force` to begin anew.',
    );
    const all = namedTensors(tensors.parameters, tensors.moments);
    for (const [name, tensor] of Object.entries(all)) {
      const entry = file.entries.get(name);
      if (!entry || `${entry.shape}` !== `${tensor.shape}`) throw damaged(path, `it has no "${name}"`);
      await upload(tensor, await file.read(entry, 0, entry.end - entry.begin));
    }
    return state;
  } catch (error) {
    if (error instanceof RmError && ['INVALID_ARGUMENT', 'DATA_INVALID'].includes(error.code)) throw error;
    throw damaged(path, (error as Error).message, error);
  } finally {
    await file?.close();
  }
}

const damaged = (path: string, problem: string, cause?: unknown): RmError =>
  new RmError(
    'DATA_INVALID',
    `${path}: no whole checkpoint of healing: ${problem}`,
    'Move it away, or add `force` to begin anew.',
    { cause },
  );
