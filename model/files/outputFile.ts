import { linkSync, renameSync, rmSync } from 'node:fs';
import { outputError } from './outputError.js';
import { type Entry, entryAt, type FileKind } from './outputKind.js';
import {
  appeared,
  type CheckedOutput,
  inTheWay,
  makeParents,
  type OutputOptions,
  whatIsAt,
  writableTarget,
} from './outputPlace.js';
import {
  addUnfinished,
  forgetUnfinished,
  removeLeftovers,
  removeOwn,
  unfinishedPath,
} from './unfinishedOutput.js';

/**
 * Checks before any work that the file `out` may be written.
 *
 * @throws RmError OUTPUT_EXISTS if a folder, or a file that is not of this kind, is in the way, and without `force` one of
 *   this kind too; if the file is, or lies in, one of `protect`. OUTPUT_FAILED if it cannot be written.
 */
export async function checkOutputFile(
  out: string,
  kind: FileKind,
  options: OutputOptions = {},
): Promise<CheckedOutput> {
  const target = writableTarget(out, options);
  const is = whatIsAt(target);
  const checked = (before?: Entry) => ({
    write: <T>(work: (path: string) => Promise<T>) => writeFile({ out, target, before }, work),
  });
  if (is === 'nothing') return checked();
  if (is !== 'file') throw inTheWay(out, 'a folder is in the way', `the output is ${kind.name}`);
  const entry = entryAt(target)!;
  const what = 'a file is in the way';
  if (!(await kind.isOne(target))) throw inTheWay(out, what, `it is not ${kind.name}`);
  if (!options.force) throw inTheWay(out, what);
  return checked(entry);
}

/** A checked file: as the caller gave it, its real path, and what was there. */
interface Checked {
  readonly out: string;
  readonly target: string;
  readonly before: Entry | undefined;
}

/** Gives `file` the name `target`, where that is as it was when it was checked. Nothing runs in between. */
function moveIntoPlace(file: string, { out, target, before }: Checked): void {
  const now = entryAt(target);
  if (now) {
    if (now.state !== before?.state) throw appeared(out);
    renameSync(file, target);
    return;
  }
  try {
    // Unlike a rename, a link fails where something is.
    linkSync(file, target);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw appeared(out);
    // The file system has no links.
    renameSync(file, target);
    return;
  }
  rmSync(file, { force: true });
}

async function writeFile<T>(checked: Checked, work: (path: string) => Promise<T>): Promise<T> {
  const { out, target } = checked;
  await removeLeftovers(target);
  const removeParents = makeParents(target, out);
  const temporary = unfinishedPath(target);
  addUnfinished(temporary, () => {
    removeOwn(temporary);
    removeParents();
  });
  try {
    const result = await work(temporary);
    try {
      moveIntoPlace(temporary, checked);
    } catch (error) {
      throw outputError(error, out);
    }
    return result;
  } finally {
    removeOwn(temporary);
    // Of a finished file they are not empty.
    removeParents();
    forgetUnfinished(temporary);
  }
}

/** Checks the file `out` and writes it. @throws RmError as checkOutputFile and CheckedOutput.write. */
export const withOutputFile = async <T>(
  out: string,
  kind: FileKind,
  options: OutputOptions,
  work: (path: string) => Promise<T>,
): Promise<T> => (await checkOutputFile(out, kind, options)).write(work);
