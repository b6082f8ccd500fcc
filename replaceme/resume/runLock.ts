import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, link, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { RmError } from '../../engine/index.js';
import { hasEnded, outputError, thisWriter, type Writer } from '../../model/index.js';

/** How often a run touches its lock, and how long the lock stays valid without. */
const [BEAT_MS, VALID_MS] = [10_000, 60_000];

interface Holder extends Writer {
  readonly token: string;
}

/** The name of a lock. */
export const LOCK = 'lock';

const lockPath = (folder: string): string => join(folder, LOCK);

/** Whether a file of this name is what a killed run left of the attempt to take a lock. */
export const isAttempt = (name: string): boolean =>
  /^lock-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-dead)?$/.test(name);

/**
 * Lets only one run at a time work in a folder; its file `lock` names that run. A dead run's lock expires at once on this
 * machine, and a minute after its last touch elsewhere.
 */
export class RunLock {
  readonly #beat: NodeJS.Timeout;

  private constructor(
    private readonly path: string,
    private readonly token: string,
  ) {
    this.#beat = setInterval(() => {
      const now = new Date();
      // `check` reports a lock that is gone.
      utimes(this.path, now, now).catch(() => {});
    }, BEAT_MS);
    this.#beat.unref();
  }

  /** The run that works in the folder or was killed there. */
  static async holder(folder: string): Promise<Writer | undefined> {
    return await holderOf(lockPath(folder));
  }

  /** @throws RmError OUTPUT_EXISTS where another run holds the lock, OUTPUT_FAILED where it cannot be written. */
  static async take(folder: string): Promise<RunLock> {
    try {
      return await RunLock.#take(folder);
    } catch (error) {
      throw outputError(error, folder);
    }
  }

  static async #take(folder: string): Promise<RunLock> {
    const path = lockPath(folder);
    const token = randomUUID();
    const own = `${path}-${token}`;
    const holder: Holder = { token, ...thisWriter() };
    await writeFile(own, JSON.stringify(holder), { flush: true });
    try {
      for (let attempt = 0; ; attempt++) {
        try {
          await nameOnce(own, path);
          return new RunLock(path, token);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        }
        const other = await settledHolder(path, own);
        if (attempt >= 3 || (other && (await isAlive(other, path, own)))) throw taken(folder, other);
        await discard(path, own, other);
      }
    } finally {
      await rm(own, { force: true });
    }
  }

  /**
   * @throws RmError OUTPUT_EXISTS where another run took over the folder because this one was stopped for too long;
   *   OUTPUT_FAILED where somebody removed the folder or the lock in it.
   */
  async check(folder: string): Promise<void> {
    const holder = await holderOf(this.path);
    if (!holder) throw gone(folder);
    if (holder.token !== this.token) throw taken(folder, holder);
  }

  async release(): Promise<void> {
    clearInterval(this.#beat);
    const holder = await holderOf(this.path).catch(() => undefined);
    if (holder?.token === this.token) await rm(this.path, { force: true });
  }
}

/** Errors of file systems that have no hard links: exFAT, some network and cloud drives. */
const NO_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];

/** Gives a file another name. Unlike a rename, this fails with EEXIST where something has that name. */
async function nameOnce(file: string, name: string): Promise<void> {
  try {
    await link(file, name);
  } catch (error) {
    if (!NO_LINKS.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    await copyFile(file, name, constants.COPYFILE_EXCL);
  }
}

/** Without hard links a lock is there before its content is: how long to wait for that. */
const [PATIENCE_MS, PAUSE_MS] = [2000, 50];

/** The run that a lock names; waits for one that is being written. */
async function settledHolder(path: string, own: string): Promise<Holder | undefined> {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const holder = await holderOf(path);
    if (holder || Date.now() > end) return holder;
    const [lock, now] = await Promise.all([stat(path), stat(own)]).catch(() => []);
    if (!lock || !now || now.mtimeMs - lock.mtimeMs > PATIENCE_MS) return undefined;
    await delay(PAUSE_MS);
  }
}

/** The run that a lock file names; undefined where there is none, or the file is incomplete. */
async function holderOf(path: string): Promise<Holder | undefined> {
  try {
    const { token, pid, host } = JSON.parse(await readFile(path, 'utf8')) as Partial<Holder>;
    return token !== undefined && pid !== undefined && host !== undefined ? { token, pid, host } : undefined;
  } catch {
    return undefined;
  }
}

/** @param own a file just written to the folder: its time is the present time of the folder's machine. */
async function isAlive(holder: Holder, path: string, own: string): Promise<boolean> {
  if (hasEnded(holder)) return false;
  const [touched, now] = await Promise.all([stat(path), stat(own)]).catch(() => []);
  return touched !== undefined && now !== undefined && now.mtimeMs - touched.mtimeMs < VALID_MS;
}

/** Removes a dead run's lock, unless another run just did and put its own there. */
async function discard(path: string, own: string, dead: Holder | undefined): Promise<void> {
  const aside = `${own}-dead`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  const moved = await holderOf(aside);
  if (moved && moved.token !== dead?.token) await nameOnce(aside, path).catch(() => {});
  await rm(aside, { force: true });
}

const gone = (folder: string): RmError =>
  new RmError(
    'OUTPUT_FAILED',
    `${folder}: the folder, or the lock of this run in it, was removed while the run kept its state there`,
    'Leave the folder in its place while a run works.',
  );

const taken = (folder: string, other: Holder | undefined): RmError =>
  new RmError(
    'OUTPUT_EXISTS',
    `${folder}: in use by another run${other ? ` (process ${other.pid} on ${other.host})` : ''}`,
    'Wait until that run has ended, or write to another folder.',
  );
