import { existsSync } from 'node:fs';
import { readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { RmError } from '../../engine/index.js';
import { headOf, whatIsAt, writableTarget } from '../../model/index.js';
import { isAttempt, LOCK, RunLock } from './runLock.js';

/** The file with a run's state. */
export const STATE = 'state.json';
/** How the state begins, in any version of its format. */
const beginning = /^\{"format":"rm-engine checkpoint \d+"/;
/** Names of files of bytes, complete and in progress. */
export const ownName = /^([0-9a-f]{64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.part)$/;

/** Whether a run has left its state in this folder. */
export const holdsState = (path: string): boolean => beginning.test(headOf(join(path, STATE)));

/**
 * Checks that a run may keep its state in this folder: nothing is there, or what another run of ours left.
 *
 * @throws RmError OUTPUT_EXISTS for somebody else's folder or file; OUTPUT_FAILED where none can be made.
 */
export async function checkRunFolder(path: string): Promise<void> {
  const target = writableTarget(path, {});
  const is = whatIsAt(target);
  if (is === 'nothing' || is === 'emptyFolder' || holdsState(target) || (await isLeftover(target))) return;
  throw new RmError(
    'OUTPUT_EXISTS',
    `${path}: this is not of rm-engine, and the run would keep its state there`,
    'Move it away, choose another output, or give `checkpoint: false`.',
  );
}

/** Removes the folder of a run that was killed before it had saved a state. @throws RmError OUTPUT_EXISTS if it still runs. */
export async function removeLeftover(path: string): Promise<void> {
  if (existsSync(path) && !holdsState(path) && (await isLeftover(path))) {
    await removeRunFiles(path, await RunLock.take(path));
  }
}

/** Whether a folder without a state has nothing but what runs leave, and a lock to show that one was there. */
async function isLeftover(path: string): Promise<boolean> {
  const names = await readdir(path).catch(() => []);
  const ours = (name: string) => ownName.test(name) || name === LOCK || isAttempt(name);
  return names.length > 0 && names.every(ours) && (await RunLock.holder(path)) !== undefined;
}

/**
 * Removes what a run keeps in its folder, name by name, and the folder if nothing else is in it. State and lock go last: a
 * process that is killed meanwhile leaves a folder that is known as ours.
 */
export async function removeRunFiles(path: string, lock: RunLock): Promise<void> {
  const names = await readdir(path).catch(() => []);
  for (const name of names) {
    if (ownName.test(name) || isAttempt(name)) await rm(join(path, name), { force: true }).catch(() => {});
  }
  await rm(join(path, STATE), { force: true }).catch(() => {});
  await lock.release();
  await rmdir(path).catch(() => {});
}
