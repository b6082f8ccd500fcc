import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { RmError } from '../../engine/index.js';
import { hasEnded, outputError, thisWriter, type Writer } from '../../model/index.js';

/** How often a run shows that it is alive, and how long it is believed without. */
const [BEAT_MS, BELIEVED_MS] = [10_000, 60_000];

interface Holder extends Writer {
  readonly token: string;
}

const lockPath = (folder: string): string => join(folder, 'lock');

/**
 * Only one run at a time works in a folder: its file `lock` names the run. A run that has died loses it, at once where
 * that can be seen from here, else when its file has not been touched for a minute.
 */
export class RunLock {
  readonly #beat: NodeJS.Timeout;

  private constructor(
    private readonly path: string,
    private readonly token: string,
  ) {
    this.#beat = setInterval(() => {
      const now = new Date();
      // Where it is gone, `check` says so.
      utimes(this.path, now, now).catch(() => {});
    }, BEAT_MS);
    this.#beat.unref();
  }

  /** The run that works in the folder, or was killed there. */
  static async holder(folder: string): Promise<Writer | undefined> {
    return await holderOf(lockPath(folder));
  }

  /** @throws RmError OUTPUT_EXISTS where another run has it, OUTPUT_FAILED where nothing can be written there. */
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
          // Unlike a rename, it fails where the file is there.
          await link(own, path);
          return new RunLock(path, token);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        }
        const other = await holderOf(path);
        if (attempt >= 3 || (other && (await isAlive(other, path, own)))) throw taken(folder, other);
        await discard(path, own, other);
      }
    } finally {
      await rm(own, { force: true });
    }
  }

  /** @throws RmError OUTPUT_EXISTS where another run has taken the folder over: this one has stood still too long. */
  async check(folder: string): Promise<void> {
    const now = await holderOf(this.path);
    if (now?.token !== this.token) throw taken(folder, now);
  }

  async release(): Promise<void> {
    clearInterval(this.#beat);
    const now = await holderOf(this.path).catch(() => undefined);
    if (now?.token === this.token) await rm(this.path, { force: true });
  }
}

/** Undefined where nobody holds it, or the file is not whole. */
async function holderOf(path: string): Promise<Holder | undefined> {
  try {
    const { token, pid, host } = JSON.parse(await readFile(path, 'utf8')) as Partial<Holder>;
    return token !== undefined && pid !== undefined && host !== undefined ? { token, pid, host } : undefined;
  } catch {
    return undefined;
  }
}

/** @param own a file just written there: its time is what the folder's machine calls now. */
async function isAlive(holder: Holder, path: string, own: string): Promise<boolean> {
  if (hasEnded(holder)) return false;
  const [touched, now] = await Promise.all([stat(path), stat(own)]).catch(() => []);
  return touched !== undefined && now !== undefined && now.mtimeMs - touched.mtimeMs < BELIEVED_MS;
}

/** Takes a dead run's file away, unless another run has just done so and put its own there. */
async function discard(path: string, own: string, dead: Holder | undefined): Promise<void> {
  const aside = `${own}-dead`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  const found = await holderOf(aside);
  if (found && found.token !== dead?.token) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
}

const taken = (folder: string, other: Holder | undefined): RmError =>
  new RmError(
    'OUTPUT_EXISTS',
    `${folder}: is in use by another run${other ? ` (process ${other.pid} on ${other.host})` : ''}`,
    'Wait until that run has ended, or write to another folder.',
  );
