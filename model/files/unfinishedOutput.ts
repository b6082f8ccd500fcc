import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, extname, join } from 'node:path';

/** A writing process: its id and the name of its machine. */
export interface Writer {
  readonly pid: number;
  readonly host: string;
}

export const thisWriter = (): Writer => ({ pid: process.pid, host: hostname() });

/** Whether a process is known to have ended; false for processes on other machines. */
export function hasEnded({ pid, host }: Writer): boolean {
  if (host !== hostname()) return false;
  // Containers reuse process ids, so an earlier process may have had this one's.
  if (pid === process.pid) return true;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

/** Paths that this process has not finished, and how to remove each. */
const unfinished = new Map<string, () => void>();

/** Removes a path that this process made under a name of its own. Clean-up goes on where it fails. */
export function removeOwn(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    // The next run that writes the same output tries again.
  }
}

/** Removes the output of unfinished writes. Synchronous, so that handlers of SIGINT, SIGTERM or 'exit' can call it. */
export function removeUnfinishedOutput(): void {
  for (const remove of unfinished.values()) {
    try {
      remove();
    } catch {
      // The others must go all the same.
    }
  }
  unfinished.clear();
}

/** Temporary paths of unfinished writes. */
export const unfinishedPaths = (): string[] => [...unfinished.keys()];

/** Registers a path for removal on interruption, until `forgetUnfinished`. */
export function addUnfinished(path: string, remove: () => void = () => removeOwn(path)): void {
  unfinished.set(path, remove);
}

export function forgetUnfinished(path: string): void {
  unfinished.delete(path);
}

const mark = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 12);
const hostMark = (host: string): string => mark(host).slice(0, 8);
/** A hash stands for the target: its own name may be as long as names can be. */
const start = (target: string): string => `.rm-engine-${mark(basename(target))}-`;
/** Longest ending that a temporary name takes over, such as '.safetensors'. */
const ENDING = 16;

/** A new temporary path beside `target`, with its ending; its name identifies the writing process. */
export function unfinishedPath(target: string): string {
  const { pid, host } = thisWriter();
  const ending = extname(target);
  const name = `${start(target)}${pid}-${hostMark(host)}-${randomBytes(4).toString('hex')}`;
  return join(dirname(target), Buffer.byteLength(ending) <= ENDING ? name + ending : name);
}

/** Where the old content goes while the new output takes its place. */
export const asidePath = (unfinished: string): string => `${unfinished}.old`;

/**
 * Removes unfinished output for `target` left by dead processes: those of this machine, and `dead`, which the caller knows
 * to be dead. Old content that was moved aside stays while `target` itself is missing; else `removeOld` decides.
 */
export async function removeLeftovers(
  target: string,
  { dead, removeOld }: { dead?: Writer; removeOld?: (aside: string) => Promise<void> } = {},
): Promise<void> {
  for (const name of namesIn(dirname(target))) {
    const path = join(dirname(target), name);
    if (!name.startsWith(start(target)) || unfinished.has(path)) continue;
    const [, pid, host] = /^(\d+)-([0-9a-f]{8})-/.exec(name.slice(start(target).length)) ?? [];
    const isOf = (writer: Writer) => Number(pid) === writer.pid && host === hostMark(writer.host);
    const neighbour = { pid: Number(pid), host: hostname() };
    if (!((isOf(neighbour) && hasEnded(neighbour)) || (dead !== undefined && isOf(dead)))) continue;
    if (!name.endsWith(asidePath(''))) removeOwn(path);
    else if (existsSync(target)) await removeOld?.(path);
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Longest name of most file systems, in bytes. */
const LONGEST = 255;

/** The path of what accompanies `path` under its name and `suffix`. A name that would be too long is cut, with a hash of it all. */
export function companionPath(path: string, suffix: string): string {
  const name = basename(path);
  if (Buffer.byteLength(name + suffix) <= LONGEST) return join(dirname(path), `${name}${suffix}`);
  const hash = `-${mark(name)}`;
  const room = LONGEST - Buffer.byteLength(hash + suffix);
  let cut = '';
  for (const letter of name) {
    if (Buffer.byteLength(cut + letter) > room) break;
    cut += letter;
  }
  return join(dirname(path), `${cut}${hash}${suffix}`);
}
