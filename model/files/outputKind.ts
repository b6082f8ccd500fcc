import { closeSync, lstatSync, openSync, readdirSync, readSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';

/** A kind of file that we write, and how an earlier one is recognised. Nothing else is ever replaced. */
export interface FileKind {
  /** Such as "a GGUF file". */
  readonly name: string;
  /** Whether the file at `path` is one. */
  isOne(path: string): boolean | Promise<boolean>;
}

/** A kind of folder that we write. */
export interface FolderKind {
  /** Such as "a model folder". */
  readonly name: string;
  /** Whether the folder has what makes it one. */
  isOne(folder: string): boolean | Promise<boolean>;
  /** Whether such a folder may hold this file; `name` is its path within the folder, with slashes. */
  holds(name: string, path: string): boolean;
}

/** The first bytes of a file as text; empty for what is no file or cannot be read. */
export function headOf(path: string, bytes = 65_536): string {
  try {
    if (!lstatSync(path).isFile()) return '';
    const file = openSync(path, 'r');
    try {
      const head = Buffer.alloc(bytes);
      return head.toString('utf8', 0, readSync(file, head, 0, bytes, 0));
    } finally {
      closeSync(file);
    }
  } catch {
    return '';
  }
}

/** A kind of text file that is recognised by how it begins. */
export const textKind = (name: string, beginning: RegExp) => ({
  name,
  isOne: (path: string): boolean => beginning.test(headOf(path)),
});

/** Something in a folder as it was at one moment. */
export interface Entry {
  /** Its path within the folder, with slashes. */
  readonly name: string;
  readonly type: 'file' | 'folder' | 'other';
  /** Changes with a file's content; of a folder, its entries count. */
  readonly state: string;
}

/** Where something is that is neither file nor folder, or whose name cannot be read, its type is 'other'. */
export function entryAt(path: string, name = ''): Entry | undefined {
  const stats = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (!stats) return undefined;
  if (stats.isDirectory()) return { name, type: 'folder', state: '' };
  const state = [stats.dev, stats.ino, stats.size, stats.mtimeNs].join();
  return { name, type: stats.isFile() ? 'file' : 'other', state };
}

function* entriesIn(folder: string, below = ''): Generator<Entry> {
  for (const part of readdirSync(join(folder, below)).sort()) {
    const name = `${below}${part}`;
    const entry = entryAt(join(folder, name), name) ?? { name, type: 'other', state: '' };
    yield entry;
    if (entry.type === 'folder') yield* entriesIn(folder, `${name}/`);
  }
}

/** All that is in a folder. */
export const listFolder = (folder: string): Entry[] => [...entriesIn(folder)];

/** Whether a folder holds the same as before. */
export const isUnchanged = (folder: string, before: readonly Entry[]): boolean =>
  entryAt(folder)?.type === 'folder' && JSON.stringify(listFolder(folder)) === JSON.stringify(before);

/** All that is in a folder of this kind; for any other folder, why it is none. */
export async function recognise(folder: string, kind: FolderKind): Promise<readonly Entry[] | string> {
  if (!(await kind.isOne(folder))) return `it is not ${kind.name}`;
  const entries: Entry[] = [];
  for (const entry of entriesIn(folder)) {
    const { name, type } = entry;
    if (type === 'other' || (type === 'file' && !kind.holds(name, join(folder, name)))) {
      return `it holds ${name}, which is no part of ${kind.name}`;
    }
    entries.push(entry);
  }
  const bare = entries.find(
    ({ name, type }) => type === 'folder' && !entries.some(other => other.name.startsWith(`${name}/`)),
  );
  return bare ? `it holds the folder ${bare.name}, which is no part of ${kind.name}` : entries;
}

/**
 * Removes these entries of a folder, name by name, and the folder where nothing else is left in it.
 *
 * @returns whether all is gone.
 */
export function removeEntries(folder: string, entries: readonly Entry[]): boolean {
  // From the inside to the outside.
  for (const { name, type, state } of [...entries].reverse()) {
    const path = join(folder, name);
    quietly(() => {
      if (type === 'folder') rmdirSync(path);
      else if (entryAt(path)?.state === state) unlinkSync(path);
    });
  }
  return quietly(() => rmdirSync(folder));
}

/** Whether it succeeded. */
function quietly(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}
