import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import {
  also,
  anything,
  download,
  ensure,
  type Form,
  finite,
  listOf,
  optional,
  orNull,
  RmError,
  readForm,
  record,
  tableOf,
  upload,
  whole,
} from '../../engine/index.js';
import {
  checkOutputFile,
  openSealedTensors,
  type SealedKind,
  sealedFile,
  writeSealedTensors,
} from '../../model/index.js';
import { firstDifference, type Recipe } from '../run/recipe.js';
import { type LoopState, type Moments, namedTensors } from './trainingLoop.js';
import type { TrainedParameter } from './trainingTask.js';

/** Increase the number of the format when its meaning changes. */
const kind: SealedKind = {
  format: 'rm-engine healing 2',
  what: 'checkpoint of healing',
  fix: 'Move it away, or add `force` to start again.',
};

const stateForm: Form<LoopState> = record({
  position: record({ epoch: whole(), used: whole() }),
  steps: also(
    listOf(
      record({
        ...{ step: whole(1), loss: orNull(finite()), learningRate: finite(0) },
        gradientNorm: orNull(finite(0)),
      }),
      1,
    ),
    steps => (steps.every(({ step }, at) => step === at + 1) ? undefined : 'its steps are not 1, 2, 3 ...'),
  ),
  heldOut: listOf(record({ step: whole(), nll: finite(), kl: optional(finite()) })),
}) as Form<LoopState>;

const checkpointForm = record({ recipe: tableOf(anything), state: stateForm });

const fileKind = sealedFile(kind);

/**
 * Checks before any work that a run may be kept in this file.
 *
 * @param replace goes on from an earlier checkpoint or begins anew.
 * @throws RmError OUTPUT_EXISTS where it is another file, or an earlier checkpoint that is not to be replaced.
 */
export async function checkCheckpoint(
  path: string,
  { protect, replace }: { protect: readonly string[]; replace: boolean },
): Promise<void> {
  await checkOutputFile(path, fileKind, { protect, force: true });
  if (replace || !existsSync(path)) return;
  throw new RmError(
    'OUTPUT_EXISTS',
    `${path}: an earlier run has left a checkpoint`,
    'Add `resume` to continue that run, or `force` to begin anew.',
  );
}

/** Removes the checkpoint of a run that is done, and no other file. */
export async function removeCheckpoint(path: string): Promise<void> {
  if (await fileKind.isOne(path)) await rm(path, { force: true });
}

/** The steps that a checkpoint has taken, at least one. @throws RmError DATA_INVALID for a damaged file. */
export async function keptSteps(path: string): Promise<LoopState['steps']> {
  const file = await openSealedTensors(path, kind);
  await file.close();
  return (file.description as { state: LoopState }).state.steps;
}

/** The tensors of a run in progress. */
interface TrainedTensors {
  readonly parameters: readonly TrainedParameter[];
  readonly moments: readonly Moments[];
}

/** What bounds a run's state. */
interface RunSize {
  readonly steps: number;
  /** Number of training sequences. */
  readonly sequences: number;
}

/**
 * Writes a run to one sealed file, which replaces the previous one as a whole: master values, moments, position in the
 * texts, and all losses so far.
 *
 * @throws RmError OUTPUT_FAILED.
 */
export async function writeCheckpoint(
  path: string,
  recipe: Recipe,
  state: LoopState,
  tensors: TrainedTensors,
): Promise<void> {
  const all = namedTensors(tensors.parameters, tensors.moments);
  const sources = Object.entries(all).map(([name, tensor]) => ({
    ...{ name, shape: tensor.shape, bytes: () => download(tensor) },
  }));
  await writeSealedTensors(path, kind, { recipe, state }, sources);
}

/**
 * Reads a checkpoint: returns the run's state and puts its values into `tensors`. Undefined where there is no file.
 *
 * @throws RmError INVALID_ARGUMENT naming the difference where it is another run's, DATA_INVALID for a damaged file.
 */
export async function readCheckpoint(
  path: string,
  recipe: Recipe,
  size: RunSize,
  tensors: TrainedTensors,
): Promise<LoopState | undefined> {
  if (!existsSync(path)) return undefined;
  const damaged = (problem: string) =>
    new RmError('DATA_INVALID', `${path}: not a complete ${kind.what}: ${problem}`, kind.fix);
  const file = await openSealedTensors(path, kind);
  try {
    const { recipe: stored, state } = readForm(file.description, checkpointForm, damaged);
    const difference = firstDifference(stored, recipe);
    ensure(
      difference === undefined,
      `${path}: differs from this run in ${difference?.description}`,
      'Give the same model, texts and options as before, or `force` to start again.',
    );
    const { steps, position, heldOut } = state;
    if (steps.length > size.steps) throw damaged(`it has ${steps.length} steps of ${size.steps}`);
    if (position.used >= size.sequences)
      throw damaged(`it has used ${position.used} of ${size.sequences} texts`);
    if (heldOut.some(({ step }) => step > steps.length))
      throw damaged('it measured steps that it has not taken');
    const all = Object.entries(namedTensors(tensors.parameters, tensors.moments));
    if (file.names.length !== all.length)
      throw damaged(`it has ${file.names.length} tensors of ${all.length}`);
    for (const [name, { shape }] of all) {
      if (`${file.shapeOf(name)}` !== `${shape}`)
        throw damaged(`"${name}" is [${file.shapeOf(name)}], not [${shape}]`);
    }
    for (const [name, tensor] of all) await upload(tensor, await file.read(name));
    return state;
  } finally {
    await file.close();
  }
}
