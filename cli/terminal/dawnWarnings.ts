import {
  closeSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const STDERR = 2;

/** What Dawn says about limits that it lowers, which concern nobody, and lines of V8's stack below. */
const aboutLimits = /^Warning: max\w+ artificially reduced.*\n( {4}at .*\n)*\n?/gm;

/** Other warnings of Dawn, which only --quiet leaves out. */
const otherWarnings = /^Warning: .*\n( {4}at .*\n)*\n?/gm;

/**
 * Does work during which Dawn and drivers write to stderr, without Dawn's lines about limits. Whatever else was written
 * is written when the work is done. Only on Linux, where a descriptor can be opened again by its path, and where stderr is
 * a terminal or a pipe: a file opened again would forget its offset, which it may share with stdout, and a socket (Node's
 * pipes to a child process are some) cannot be opened again.
 */
export async function withoutDawnWarnings<T>(work: () => Promise<T>, { quiet = false } = {}): Promise<T> {
  const setAside = process.platform === 'linux' ? setStderrAside() : undefined;
  if (!setAside) return work();
  try {
    return await work();
  } finally {
    const text = setAside.restore().replace(aboutLimits, '');
    const rest = quiet ? text.replace(otherWarnings, '') : text;
    if (rest) process.stderr.write(rest);
  }
}

/** The descriptor of stderr leads to a file until `restore`, which returns what was written; undefined where it cannot. */
function setStderrAside(): { restore(): string } | undefined {
  let kept: number;
  let folder: string;
  try {
    const stderr = fstatSync(STDERR);
    if (!stderr.isFIFO() && !stderr.isCharacterDevice()) return undefined;
    kept = openSync(`/proc/self/fd/${STDERR}`, 'a');
    folder = mkdtempSync(join(tmpdir(), 'rm-engine-stderr-'));
  } catch {
    return undefined;
  }
  const file = join(folder, 'written');
  writeFileSync(file, '');
  lead(file);
  return {
    restore() {
      lead(`/proc/self/fd/${kept}`);
      closeSync(kept);
      const text = readFileSync(file, 'utf8');
      rmSync(folder, { recursive: true });
      return text;
    },
  };
}

/** Closes stderr and opens it anew: a file gets the lowest descriptor that is free. */
function lead(path: string): void {
  closeSync(STDERR);
  const opened = openSync(path, 'a');
  if (opened === STDERR) return;
  // Another thread was faster. What it has opened is not ours to close, and nothing can be said on stderr any more.
  writeSync(1, 'rm-engine: stderr was lost while the device was opened; run again\n');
  process.exit(1);
}
