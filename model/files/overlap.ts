import { readdirSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, parse, relative, resolve, sep } from 'node:path';
import { RmError } from '../../engine/index.js';

/** Resolves symbolic links in the existing part of a path. */
export function realPathOf(path: string): string {
  try {
    return realpathSync.native(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(realPathOf(parent), basename(path));
  }
}

/** Windows and macOS tell no letters from capitals. */
const spelt = (path: string): string =>
  process.platform === 'linux' ? path : path.normalize('NFC').toLowerCase();

/** Whether a path is `folder` or below it, by its letters. */
export function contains(folder: string, path: string): boolean {
  const way = relative(spelt(folder), spelt(path));
  return way === '' || (way !== '..' && !way.startsWith(`..${sep}`) && parse(way).root === '');
}

interface Place {
  readonly path: string;
  /** What the file system calls the path itself; undefined if nothing is there. */
  readonly id: string | undefined;
  /** The same for the path and all folders above it. */
  readonly above: ReadonlySet<string>;
}

function idOf(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

function placeOf(given: string): Place {
  const path = realPathOf(resolve(given));
  const above = new Set<string>();
  for (let at = path; ; at = dirname(at)) {
    const id = idOf(at);
    if (id !== undefined) above.add(id);
    if (at === dirname(at)) break;
  }
  return { path, id: idOf(path), above };
}

const isWithin = (inner: Place, outer: Place): boolean =>
  (outer.id !== undefined && inner.above.has(outer.id)) || contains(outer.path, inner.path);

/** Where the links in a folder lead: the weights of a model may be elsewhere. */
function linkedFrom(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter(entry => entry.isSymbolicLink())
      .map(({ name }) => join(folder, name));
  } catch {
    return [];
  }
}

/** Undefined where somebody has removed it. */
function workingFolder(): string | undefined {
  try {
    return process.cwd();
  } catch {
    return undefined;
  }
}

/**
 * Refuses an output that is an input, lies in one, or contains one. Compares what the file system says of the paths, so that
 * links, hard links, `..`, capitals and slashes at the end make no difference.
 *
 * @throws RmError OUTPUT_EXISTS.
 */
export function refuseOverlap(out: string, inputs: readonly string[]): void {
  const output = placeOf(out);
  const refuse = (how: string, path: string): RmError =>
    new RmError(
      'OUTPUT_EXISTS',
      `${out}: cannot be the output, because it ${how} ${path}`,
      'Choose a separate place for the result.',
    );
  for (const path of [workingFolder(), process.env.HOME, process.env.USERPROFILE]) {
    if (path && isWithin(placeOf(path), output)) throw refuse('is or contains', path);
  }
  for (const path of inputs) {
    const input = placeOf(path);
    if (isWithin(input, output)) throw refuse('is or contains', path);
    if (isWithin(output, input)) throw refuse('lies in', path);
    for (const link of linkedFrom(input.path)) {
      const linked = placeOf(link);
      if (isWithin(linked, output)) throw refuse('is or contains what is linked from', link);
      if (isWithin(output, linked)) throw refuse('lies in what is linked from', link);
    }
  }
}
