import { join } from 'node:path';
import type { FileKind } from './outputKind.js';
import { inTheWay, type OutputOptions, whatIsAt, writableTarget } from './outputPlace.js';

/**
 * Checks before any work that these files may be written into a folder which is not replaced as a whole. It is new, empty, or
 * has one of them from an earlier run; other things in it are left alone.
 *
 * @param files the kind of each file, by its path within the folder.
 * @throws RmError OUTPUT_EXISTS where the folder is another, a file is of another kind, or `force` is missing; OUTPUT_FAILED.
 */
export async function checkKeptFolder(
  folder: string,
  files: Readonly<Record<string, FileKind>>,
  options: OutputOptions = {},
): Promise<void> {
  const target = writableTarget(folder, options);
  const is = whatIsAt(target);
  if (is === 'nothing') return;
  if (is === 'file') throw inTheWay(folder, 'a file is in the way', 'the output is a folder');
  writableTarget(join(folder, Object.keys(files)[0]!), options);
  let ours = 0;
  for (const [name, kind] of Object.entries(files)) {
    const path = join(target, name);
    const found = whatIsAt(path);
    if (found === 'nothing') continue;
    if (found !== 'file' || !(await kind.isOne(path))) {
      throw inTheWay(join(folder, name), 'this is in the way', `it is not ${kind.name}`);
    }
    if (!options.force) throw inTheWay(join(folder, name), 'a file is in the way');
    ours++;
  }
  if (is === 'folder' && ours === 0) {
    throw inTheWay(folder, 'the folder exists and is not empty', 'nothing in it is of an earlier run');
  }
}
