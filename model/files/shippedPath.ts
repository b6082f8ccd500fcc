import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A file that ships with the package; the compiled code lies one folder deeper than the sources. */
export function shippedPath(...parts: string[]): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'assets')) && folder !== dirname(folder)) folder = dirname(folder);
  return join(folder, 'assets', ...parts);
}
