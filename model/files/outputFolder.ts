import { mkdirSync, readdirSync, renameSync, rmdirSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { RmError } from '../../engine/index.js';
import { outputError } from './outputError.js';
import {
  type Entry,
  entryAt,
  type FolderKind,
  isUnchanged,
  listFolder,
  recognise,
  removeEntries,
} from './outputKind.js';
import {
  appeared,
  type CheckedOutput,
  canMove,
  inTheWay,
  makeParents,
  type OutputOptions,
  whatIsAt,
  within,
  workPath,
  writableTarget,
} from './outputPlace.js';
import { realPathOf } from './overlap.js';
import {
  addUnfinished,
  asidePath,
  forgetUnfinished,
  removeLeftovers,
  removeOwn,
  unfinishedPath,
  type Writer,
} from './unfinishedOutput.js';

/**
 * Checks before any work that the folder `out` may be written.
 *
 * @throws RmError OUTPUT_EXISTS if a file, or a non-empty folder that is not of this kind, is in the way, and without `force`
 *   one of this kind too; if the folder overlaps an input (`protect`), or contains the working directory or the home
 *   directory. OUTPUT_FAILED if it cannot be written.
 */
export async function checkOutputFolder(
  out: string,
  kind: FolderKind,
  options: OutputOptions = {},
): Promise<CheckedOutput> {
  const target = writableTarget(out, options);
  if (entryAt(target)?.type === 'folder') await removeLeftovers(within(target));
  const existing = await replaceable(out, target, kind, options.force ?? false);
  const stays = existing.is !== 'nothing' && !canMove(target, out);
  return { write: work => writeFolder({ out, target, existing, stays, kind, ...options }, work) };
}

/** What was there when it was checked. */
type Existing =
  | { readonly is: 'nothing' | 'emptyFolder' }
  | { readonly is: 'folder'; readonly entries: readonly Entry[] };

/** A checked folder: as the caller gave it, its real path, and what was there. */
interface Checked extends OutputOptions {
  readonly out: string;
  readonly target: string;
  readonly existing: Existing;
  /** Whether the folder cannot be moved, being a mount point: its content is replaced instead. */
  readonly stays: boolean;
  readonly kind: FolderKind;
}

async function replaceable(out: string, target: string, kind: FolderKind, force: boolean): Promise<Existing> {
  const is = whatIsAt(target);
  if (is === 'nothing' || is === 'emptyFolder') return { is };
  if (is !== 'folder') throw inTheWay(out, 'a file is in the way', `the output is ${kind.name}`);
  const entries = await recognise(target, kind);
  const what = 'the folder exists and is not empty';
  if (typeof entries === 'string') throw inTheWay(out, what, entries);
  if (!force) throw inTheWay(out, what);
  return { is, entries };
}

/** Gives `folder` the name `target`; returns the path of the old content if there was any. Nothing runs in between. */
function moveIntoPlace(folder: string, { out, target, existing }: Checked): string | undefined {
  // Fails where anything but an empty folder is.
  if (existing.is === 'emptyFolder' && whatIsAt(target) === 'emptyFolder') rmdirSync(target);
  if (whatIsAt(target) === 'nothing') {
    // Over an empty folder at the most.
    renameSync(folder, target);
    return undefined;
  }
  if (existing.is !== 'folder') throw appeared(out);
  const aside = asidePath(folder);
  renameSync(target, aside);
  try {
    if (!isUnchanged(aside, existing.entries)) throw appeared(out);
    renameSync(folder, target);
  } catch (error) {
    moveBack(aside, target, out);
    throw error;
  }
  return aside;
}

/**
 * Moves the content of `folder`, which lies within `target`, to `target`, what models are recognised by last; returns the
 * path of the old content if there was any. Nothing runs in between; what fails is undone.
 */
function moveContent(folder: string, { out, target, existing }: Checked): string | undefined {
  const before = existing.is === 'folder' ? existing.entries : [];
  const own = basename(folder);
  const now = listFolder(target).filter(({ name }) => name !== own && !name.startsWith(`${own}/`));
  if (JSON.stringify(now) !== JSON.stringify(before)) throw appeared(out);
  const aside = asidePath(folder);
  const moved: [from: string, to: string][] = [];
  const move = (from: string, to: string) => {
    renameSync(from, to);
    moved.push([from, to]);
  };
  if (before.length > 0) mkdirSync(aside);
  try {
    for (const { name } of before) if (!name.includes('/')) move(join(target, name), join(aside, name));
    const names = readdirSync(folder);
    for (const name of [...names.filter(name => name !== LAST), ...names.filter(name => name === LAST)]) {
      move(join(folder, name), join(target, name));
    }
  } catch (error) {
    for (const [from, to] of moved.reverse()) moveBack(to, from, out);
    if (before.length > 0) rmdirSync(aside);
    throw error;
  }
  rmdirSync(folder);
  return before.length > 0 ? aside : undefined;
}

/** Without this file a folder is no model. */
const LAST = 'config.json';

function moveBack(aside: string, target: string, out: string): void {
  try {
    renameSync(aside, target);
  } catch (error) {
    const message = `${out}: what was there is now in ${aside}, and could not be moved back`;
    throw new RmError('OUTPUT_FAILED', message, 'Move it back yourself.', { cause: error });
  }
}

/** A new temporary folder beside `target`, and the way to remove it with the parents that were made for it. */
function beginFolder(target: string, out: string): { folder: string; remove: () => void } {
  const removeParents = makeParents(target, out);
  const folder = unfinishedPath(target);
  const remove = () => {
    removeOwn(folder);
    removeParents();
  };
  addUnfinished(folder, remove);
  try {
    mkdirSync(folder);
  } catch (error) {
    throw outputError(error, out);
  }
  return { folder, remove };
}

/** Removes unfinished output for `out` left by the dead process `writer`. */
export const removeLeftBy = (writer: Writer, out: string): Promise<void> =>
  removeLeftovers(realPathOf(resolve(out)), { dead: writer });

async function writeFolder<T>(checked: Checked, work: (folder: string) => Promise<T>): Promise<T> {
  const { out, target, existing, stays, kind, onNotice } = checked;
  await removeLeftovers(target, {
    removeOld: async aside => {
      const entries = await recognise(aside, kind);
      if (typeof entries !== 'string') removeEntries(aside, entries);
    },
  });
  const { folder, remove } = beginFolder(stays ? within(target) : target, out);
  try {
    const result = await work(folder);
    let aside: string | undefined;
    try {
      aside = stays ? moveContent(folder, checked) : moveIntoPlace(folder, checked);
    } catch (error) {
      throw outputError(error, out);
    }
    if (aside !== undefined && existing.is === 'folder' && !removeEntries(aside, existing.entries)) {
      onNotice?.(`${out} is written; what was there could not be removed from ${aside}`);
    }
    return result;
  } catch (error) {
    remove();
    throw error;
  } finally {
    forgetUnfinished(folder);
  }
}

/** Checks the folder `out` and writes it. @throws RmError as checkOutputFolder and CheckedOutput.write. */
export const withOutputFolder = async <T>(
  out: string,
  kind: FolderKind,
  options: OutputOptions,
  work: (folder: string) => Promise<T>,
): Promise<T> => (await checkOutputFolder(out, kind, options)).write(work);

/**
 * Runs `work` on a temporary folder beside `out`, for files too large for the system's temporary folder, and always removes
 * the folder afterwards.
 *
 * @throws RmError OUTPUT_FAILED; what `work` throws.
 */
export async function withFolderBeside<T>(out: string, work: (folder: string) => Promise<T>): Promise<T> {
  const target = workPath(realPathOf(resolve(out)));
  await removeLeftovers(target);
  const { folder, remove } = beginFolder(target, out);
  try {
    return await work(folder);
  } finally {
    remove();
    forgetUnfinished(folder);
  }
}
