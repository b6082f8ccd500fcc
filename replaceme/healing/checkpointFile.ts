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

/** Written into every file; increase the number when its meaning changes. */
const FORMAT = 'rm-engine healing 1';

/** The tensors of a run in progress. */
interface TrainedTensors {
  readonly parameters: readonly TrainedParameter[];
  readonly moments: readonly Moments[];
}

/**
 * Writes a run to one safetensors file, which replaces the previous one as a whole: master values, moments, position in
 * the texts, and all losses so far.
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
 * Reads a checkpoint: returns the run's state and puts its values into `tensors`. Undefined where there is no file.
 *
 * @throws RmError INVALID_ARGUMENT naming the difference where it is another run's, DATA_INVALID for a damaged file.
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
    const storedRecipe = JSON.parse(metadata.recipe ?? '') as Recipe;
    const state = JSON.parse(metadata.state ?? '') as LoopState;
    if (!isRecord(storedRecipe) || !isRecord(state)) throw damaged(path, 'its description is incomplete');
    const difference = firstDifference(storedRecipe, recipe);
    ensure(
      difference === undefined,
      `${path}: differs from this run in ${difference?.description}`,
      'Give the same model, texts and options as before, or `force` to start again.',
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
    `${path}: not a complete checkpoint of healing: ${problem}`,
    'Move it away, or add `force` to start again.',
    { cause },
  );
