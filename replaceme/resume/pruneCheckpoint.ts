import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Device, ensure, RmError, sha256 } from '../../engine/index.js';
import { besideModel, companionPath, isGgufPath, removeLeftBy } from '../../model/index.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import { runSettings } from '../options/pruneSettings.js';
import { CheckpointFolder } from './checkpointFolder.js';
import { checkRunFolder, holdsState, removeLeftover } from './runFolder.js';
import { RunJournal } from './runJournal.js';
import { RunLock } from './runLock.js';

/** The journal's name for the report.json of a finished output. */
export const FINISHED = 'report.json';

/** Where a run that writes `out` keeps its state: beside it. */
export const checkpointPath = (out: string): string => companionPath(resolve(out), '.checkpoint');

/**
 * Refuses options that contradict each other, and a checkpoint that no option says what to do with.
 *
 * @throws RmError INVALID_ARGUMENT; OUTPUT_EXISTS where an interrupted run has left a checkpoint.
 */
export async function checkCheckpointOptions(out: string, options: PruneOptions): Promise<void> {
  const { resume = false, restart = false, checkpoint = true, checkpointEvery } = options;
  ensure(!(resume && restart), 'resume and restart contradict each other', 'Give `resume` or `restart`.');
  ensure(
    checkpoint || (!resume && checkpointEvery === undefined),
    'the run keeps no checkpoint, and yet there are settings for it',
    'Leave out `checkpoint: false`, or `resume` and `checkpointEvery`.',
  );
  const path = checkpointPath(out);
  if (checkpoint || restart) await checkRunFolder(path);
  if (resume || restart || !holdsState(path)) return;
  throw new RmError(
    'OUTPUT_EXISTS',
    `${path}: an interrupted run has left its state there`,
    'Add `resume` to continue from it, or `restart` to discard it and begin anew.',
  );
}

/**
 * Opens the journal of a prune; undefined where the options switch it off.
 *
 * @throws RmError OUTPUT_EXISTS where another run works on the same output; DATA_INVALID for a damaged checkpoint.
 */
export async function openJournal(
  device: Device,
  out: string,
  {
    resume,
    restart,
    checkpoint = true,
    checkpointEvery = runSettings.checkpointEvery.default,
    signal,
    onNotice,
  }: PruneOptions,
): Promise<RunJournal | undefined> {
  const path = checkpointPath(out);
  const there = holdsState(path);
  const killed = there ? await RunLock.holder(path) : undefined;
  const options = {
    every: checkpointEvery,
    signal,
    onFailure: (reason: string) => onNotice?.(`the run goes on, but could not be resumed: ${reason}`),
  };
  if (there && restart) await CheckpointFolder.discard(path);
  await removeLeftover(path);
  const resumed = there && !restart ? await RunJournal.resume(device, path, options) : undefined;
  // Either has found its lock free.
  if (killed) await removeLeftBy(killed, out);
  if (!checkpoint) return undefined;
  if (resumed) {
    onNotice?.(`going on from ${path}`);
    return resumed;
  }
  if (resume) onNotice?.('there is no checkpoint to go on from: beginning anew');
  return RunJournal.begin(device, path, options);
}

/** The report of a model at `path`: within a folder, beside a GGUF file. */
export const reportOf = (path: string): string =>
  isGgufPath(path) ? besideModel(path, FINISHED) : join(path, FINISHED);

/** Records that the output `out`, still at `target`, is complete but for its name. */
export async function markFinished(journal: RunJournal, out: string, target: string): Promise<void> {
  if (!journal.isKept) return;
  await journal.step(FINISHED, async () => sha256(await readFile(reportOf(isGgufPath(out) ? out : target))));
  try {
    await journal.save();
  } catch (error) {
    // Where the state cannot be saved any more, the output is complete all the same.
    if (!(error instanceof RmError && error.code === 'OUTPUT_FAILED')) throw error;
  }
}

/** Whether a run may have been killed between giving its output its name and removing its checkpoint. */
export const mayBeFinished = (out: string, { resume }: PruneOptions): boolean =>
  resume === true && holdsState(checkpointPath(out)) && existsSync(out) && existsSync(reportOf(out));
