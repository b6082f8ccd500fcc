import { lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { RmError } from '../../engine/index.js';
import { outputError } from './outputError.js';
import { entryAt } from './outputKind.js';
import { contains, realPathOf, refuseOverlap } from './overlap.js';
import { asidePath, unfinishedPath } from './unfinishedOutput.js';

export interface OutputOptions {
  /** Replace an earlier output of the same kind; anything else is never replaced. */
  readonly force?: boolean;
  /** Inputs, and other outputs of the same run: an output that is, contains or lies in one of them is refused. */
  readonly protect?: readonly string[];
  /** Is told where old content could not be removed. */
  readonly onNotice?: ((text: string) => void) | undefined;
}

/** An output that may be written. */
export interface CheckedOutput {
  /**
   * Runs `work` on a temporary path beside the output, and gives that the output's name at the end: the output is complete
   * or untouched. Replaces what was there when it was checked, and nothing else. The temporary path goes on failure; on a
   * signal, call removeUnfinishedOutput().
   *
   * @throws RmError OUTPUT_EXISTS if something has come into the way since the check, OUTPUT_FAILED; what `work` throws.
   */
  write<T>(work: (path: string) => Promise<T>): Promise<T>;
}

/** What is at a path; content is not looked at. */
export function whatIsAt(path: string): 'nothing' | 'emptyFolder' | 'folder' | 'file' | 'other' {
  try {
    const entry = entryAt(path);
    if (!entry) return 'nothing';
    if (entry.type !== 'folder') return entry.type;
    return readdirSync(path).length === 0 ? 'emptyFolder' : 'folder';
  } catch (error) {
    throw outputError(error, path);
  }
}

/**
 * The real path of an output that overlaps no input and that the file system can hold. Tries the latter now, on an empty
 * folder beside the output: a name that is too long or a folder that is read-only should not cost the work.
 *
 * @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED.
 */
export function writableTarget(out: string, { protect = [] }: OutputOptions): string {
  refuseOverlap(out, protect);
  const target = realPathOf(resolve(out));
  if (whatIsAt(target) === 'other') {
    throw new RmError(
      'OUTPUT_EXISTS',
      `${out}: is a broken link, a device or the like`,
      'Choose another path.',
    );
  }
  try {
    tryNames(workPath(target));
  } catch (error) {
    throw outputError(error, out);
  }
  return target;
}

/**
 * The path beside which temporary content of an output goes. That of a mounted folder is within it: the folder around it
 * is on another disk and may be read-only.
 */
export function workPath(target: string): string {
  return isMounted(target) ? within(target) : target;
}

/** A path within a folder, for temporary content that bears the folder's name. */
export const within = (folder: string): string => join(folder, basename(folder));

function isMounted(path: string): boolean {
  try {
    const stats = statSync(path);
    return stats.isDirectory() && stats.dev !== statSync(dirname(path)).dev;
  } catch {
    // What cannot be looked at is told by whoever writes there.
    return false;
  }
}

/** Longest name of what is written within an output folder. */
const INNER = 'model-00001-of-00001.safetensors.index.json';

function tryNames(target: string): void {
  const temporary = unfinishedPath(target);
  const look = (path: string) => lstatSync(path, { throwIfNoEntry: false });
  look(join(asidePath(temporary), INNER));
  let folder = dirname(target);
  const missing = [basename(target)];
  // A link that leads nowhere is there, and nothing can be made in it.
  for (; !entryAt(folder); folder = dirname(folder)) missing.push(basename(folder));
  for (const name of missing) look(join(folder, name));
  const trial = join(folder, basename(temporary));
  mkdirSync(trial);
  rmdirSync(trial);
}

/** Makes the folders above an output; returns what removes them again as long as they are empty. */
export function makeParents(target: string, out: string): () => void {
  const parent = dirname(target);
  try {
    const top = mkdirSync(parent, { recursive: true });
    return () => removeEmpty(parent, top);
  } catch (error) {
    throw outputError(error, out);
  }
}

function removeEmpty(deepest: string, top: string | undefined): void {
  try {
    for (let at = deepest; top !== undefined && contains(top, at); at = dirname(at)) rmdirSync(at);
  } catch {
    // Something is in it.
  }
}

/**
 * Tries whether a folder can be moved. A mount point cannot: what replaces its content is written within it.
 *
 * @throws RmError OUTPUT_FAILED for a folder that may not be moved, such as another's in /tmp.
 */
export function canMove(target: string, out: string): boolean {
  const aside = asidePath(unfinishedPath(target));
  try {
    renameSync(target, aside);
  } catch (error) {
    if (['EBUSY', 'EXDEV'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw outputError(error, out);
  }
  try {
    renameSync(aside, target);
  } catch (error) {
    throw outputError(error, out);
  }
  return true;
}

/** The error for what is in the way; `why` it may not be replaced, if it may not. */
export const inTheWay = (out: string, what: string, why?: string): RmError =>
  new RmError(
    'OUTPUT_EXISTS',
    `${out}: ${what}${why === undefined ? '' : `, and may not be replaced: ${why}`}`,
    why === undefined
      ? 'Choose another path, or add `force` to replace it.'
      : 'Choose another path, or move it away.',
  );

/** The error for what has come into the way since the check. */
export const appeared = (out: string): RmError =>
  new RmError(
    'OUTPUT_EXISTS',
    `${out}: something else has been put there during the work`,
    'Move it away, or choose another path.',
  );
