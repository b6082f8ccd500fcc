import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkArguments, listOf, text } from '../../engine/index.js';

/** Path of a file that ships with the package, under assets/. Compiled code lies one folder deeper than the sources. */
export function shippedPath(...parts: string[]): string {
  checkArguments('shippedPath', { parts }, { parts: listOf(text) });
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'assets')) && folder !== dirname(folder)) folder = dirname(folder);
  return join(folder, 'assets', ...parts);
}
