// npm-shrinkwrap.json, which npm obeys when it installs the package: package-lock.json without what only development needs.
// `npm pack` and `npm publish` have it written before and removed after: npm would take it for the lock of this checkout.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NAME = 'npm-shrinkwrap.json';
const lockFile = join(dirname(fileURLToPath(import.meta.url)), '..', 'package-lock.json');

/** Writes it into a folder. */
export function writeShrinkwrap(folder) {
  const { packages, ...lock } = JSON.parse(readFileSync(lockFile, 'utf8'));
  const needed = Object.entries(packages)
    .filter(([, { dev }]) => !dev)
    .map(([path, { devDependencies, devOptional, resolved, ...entry }]) => [
      path,
      { ...entry, ...(devOptional && { optional: true }) },
    ]);
  const content = { ...lock, packages: Object.fromEntries(needed) };
  writeFileSync(join(folder, NAME), `${JSON.stringify(content, null, 2)}\n`);
}

export const removeShrinkwrap = folder => rmSync(join(folder, NAME), { force: true });
