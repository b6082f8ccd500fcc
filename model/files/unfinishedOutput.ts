import { createHash, randomBytes } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';

/** A process that writes, by its number and the name of its machine. */
export interface Writer {
  readonly pid: number;
  readonly host: string;
}

export const thisWriter = (): Writer => ({ pid: process.pid, host: hostname() });

/** Whether a process of this machine has ended; of another machine nothing can be told. */
export function hasEnded({ pid, host }: Writer): boolean {
  if (host !== hostname()) return false;
  // A container's processes begin with the same numbers every time.
  if (pid === process.pid) return true;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

/** What this process has not finished (or no longer wants). */
const unfinished = new Set<string>();

/** Removes what unfinished writes have left. Synchronous: for a handler of SIGINT, SIGTERM or 'exit'. */
export function removeUnfinishedOutput(): void {
  for (const path of unfinished) rmSync(path, { recursive: true, force: true });
  unfinished.clear();
}

/** Notes a path that goes when the process is interrupted, until `forgetUnfinished`. */
export function addUnfinished(path: string): void {
  unfinished.add(path);
}

export function forgetUnfinished(path: string): void {
  unfinished.delete(path);
}

const start = (target: string): string => `.${basename(target)}.rm-engine-`;
const hostMark = (host: string): string => createHash('sha256').update(host).digest('hex').slice(0, 8);

/** A new path beside `target`, to be written before it takes that name; it tells whose it is. `ending` as '.gguf'. */
export function unfinishedPath(target: string, ending = ''): string {
  const { pid, host } = thisWriter();
  const name = `${start(target)}${pid}-${hostMark(host)}-${randomBytes(4).toString('hex')}${ending}`;
  return join(dirname(target), name);
}

/** Where the content before goes while what is unfinished takes its place. */
export const asidePath = (unfinished: string): string => `${unfinished}.old`;

/**
 * Removes what killed processes have left half written for `target`: those of this machine, and `dead`, of which it is
 * known from elsewhere. Content that one of them had moved aside stays while there is none in its place.
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
    // Where that is refused the new output has a place of its own all the same.
    await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}
