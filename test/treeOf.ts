import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

/** All that is below a folder: each path with what it is, and the hash of a file's bytes. */
export function treeOf(folder: string, below = ''): Record<string, string> {
  return Object.assign(
    {},
    ...readdirSync(join(folder, below)).map(name => {
      const path = below === '' ? name : `${below}/${name}`;
      const full = join(folder, path);
      const stats = lstatSync(full);
      if (stats.isSymbolicLink()) return { [path]: `link to ${readlinkSync(full)}` };
      if (stats.isDirectory()) return { [path]: 'folder', ...treeOf(folder, path) };
      if (!stats.isFile()) return { [path]: 'other' };
      return { [path]: createHash('sha256').update(readFileSync(full)).digest('hex') };
    }),
  );
}
