import { createHash, randomBytes } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';

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

/** Paths that this process has not finished, or no longer needs. */
const unfinished = new Set<string>();

/** Removes the output of unfinished writes. Synchronous, so that handlers of SIGINT, SIGTERM or 'exit' can call it. */
export function removeUnfinishedOutput(): void {
  for (const path of unfinished) rmSync(path, { recursive: true, force: true });
  unfinished.clear();
}

/** Registers a path for removal on interruption, until `forgetUnfinished`. */
export function addUnfinished(path: string): void {
  unfinished.add(path);
}

export function forgetUnfinished(path: string): void {
  unfinished.delete(path);
}

const start = (target: string): string => `.${basename(target)}.rm-engine-`;
const hostMark = (host: string): string => createHash('sha256').update(host).digest('hex').slice(0, 8);

/** A new temporary path beside `target`; its name identifies the writing process. `ending` is e.g. '.gguf'. */
export function unfinishedPath(target: string, ending = ''): string {
  const { pid, host } = thisWriter();
  const name = `${start(target)}${pid}-${hostMark(host)}-${randomBytes(4).toString('hex')}${ending}`;
  return join(dirname(target), name);
}

/** Where the old content goes while the new output takes its place. */
export const asidePath = (unfinished: string): string => `${unfinished}.old`;

/**
 * Removes unfinished output for `target` left by dead processes: those of this machine, and `dead`, which the caller knows
 * to be dead. Keeps content that was moved aside while `target` itself is missing.
 */
export async function removeLeftovers(target: string, dead?: Writer): Promise<void> {
  for (const name of await readdir(dirname(target)).catch(() => [])) {
    const path = join(dirname(target), name);
    if (!name.startsWith(start(target)) || unfinished.has(path)) continue;
    const [, pid, host] = /^(\d+)-([0-9a-f]{8})-/.exec(name.slice(start(target).length)) ?? [];
    const isOf = (writer: Writer) => Number(pid) === writer.pid && host === hostMark(writer.host);
    const neighbour = { pid: Number(pid), host: hostname() };
    const left = (isOf(neighbour) && hasEnded(neighbour)) || (dead !== undefined && isOf(dead));
    if (!left || (name.endsWith(asidePath('')) && !existsSync(target))) continue;
    // A failure does not matter: the new output has its own path.
    await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}
