import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PIECE } from '../../engine/index.js';
import { isRecord } from '../../model/index.js';
import type { Recipe } from '../run/recipe.js';
import { sha256 } from '../run/sha256.js';
import { RunLock } from './runLock.js';
import { type Bytes, changed, namesIn, type Pieces, type Stored } from './storedValues.js';

/** Written into every checkpoint; a change of what it means takes another number. */
const FORMAT = 'rm-engine checkpoint 1';
const STATE = 'state.json';

/** Where a run is: plain JSON, with the names of bytes beside it. */
export interface RunState {
  readonly recipe: Recipe;
  /** Results of finished pieces of work, by path. */
  readonly done: Readonly<Record<string, Stored>>;
  /** Next index of walks that are under way. */
  readonly cursors: Readonly<Record<string, number>>;
  /** Live states as they were. */
  readonly live: Readonly<Record<string, Stored>>;
}

const stateParts = ['recipe', 'done', 'cursors', 'live'] as const;

/**
 * A folder with one state of a run. Bytes lie in files named by their SHA-256, so that what has not changed is not
 * written again; state.json names them and takes the place of the one before when all of them are on the disk. What a
 * killed process has left besides is removed by the next.
 */
export class CheckpointFolder implements Bytes {
  /** Files that are whole and on the disk. */
  readonly #files = new Set<string>();
  /** Bytes that have no file yet. */
  readonly #pending = new Map<string, readonly Uint8Array[]>();
  /** Whether nothing more is kept; what is in the folder stays. */
  #abandoned = false;
  /** Files that a save in progress has added. */
  #added: string[] | undefined;
  #lock: RunLock | undefined;

  private constructor(readonly path: string) {}

  /** Whether a run has left something there. */
  static exists(path: string): boolean {
    return existsSync(join(path, STATE));
  }

  /** For a run that keeps nothing yet: the folder is made when it does. */
  static fresh(path: string): CheckpointFolder {
    return new CheckpointFolder(path);
  }

  /**
   * Opens what an earlier run has left.
   *
   * @throws RmError OUTPUT_EXISTS where a run still works there, DATA_INVALID where the state is damaged.
   */
  static async open(path: string): Promise<{ folder: CheckpointFolder; state: RunState }> {
    const folder = new CheckpointFolder(path);
    folder.#lock = await RunLock.take(path);
    try {
      const state = await readState(join(path, STATE));
      const needed = namesOf(state);
      for (const name of await readdir(path)) {
        if (needed.has(name)) folder.#files.add(name);
        else if (name !== STATE && !name.startsWith('lock')) await rm(join(path, name), { force: true });
      }
      for (const name of needed) {
        if (!folder.#files.has(name)) throw changed(`${join(path, name)} is missing`);
      }
      return { folder, state };
    } catch (error) {
      await folder.#lock.release();
      throw error;
    }
  }

  /** Removes what an earlier run has left. @throws RmError OUTPUT_EXISTS where a run still works there. */
  static async discard(path: string): Promise<void> {
    const lock = await RunLock.take(path);
    // The state first: without it the rest is nothing.
    await rm(join(path, STATE), { force: true });
    await lock.release();
    await rm(path, { recursive: true, force: true });
  }

  /** Whether the folder is there and this run's. */
  get isOpen(): boolean {
    return this.#lock !== undefined;
  }

  /** Bytes that wait in memory for the next save. */
  get pendingBytes(): number {
    let bytes = 0;
    for (const pieces of this.#pending.values()) for (const { byteLength } of pieces) bytes += byteLength;
    return bytes;
  }

  get isAbandoned(): boolean {
    return this.#abandoned;
  }

  /** Keeps nothing from now on, so that memory does not fill up with what cannot be written. */
  abandon(): void {
    this.#abandoned = true;
    this.#pending.clear();
  }

  async put(pieces: Pieces): Promise<string> {
    if (this.#abandoned) return '';
    if (this.isOpen) {
      try {
        return await this.#write(pieces);
      } catch (error) {
        // What waits in memory is written by the next save, which says why it cannot be.
        if (this.#added) throw error;
      }
    }
    const kept: Uint8Array[] = [];
    const hash = createHash('sha256');
    for await (const piece of pieces()) {
      hash.update(piece);
      kept.push(piece);
    }
    const name = hash.digest('hex');
    if (!this.#files.has(name)) this.#pending.set(name, kept);
    return name;
  }

  async *get(name: string, byteLength: number): AsyncIterable<Uint8Array> {
    const kept = this.#pending.get(name);
    if (kept) {
      yield* kept;
      return;
    }
    const path = join(this.path, name);
    const file = await open(path, 'r').catch(error =>
      Promise.reject(changed(`${path} cannot be read`, error)),
    );
    try {
      const { size } = await file.stat();
      if (size !== byteLength) throw changed(`${path} has ${size} bytes instead of ${byteLength}`);
      const hash = createHash('sha256');
      for (let at = 0; at < size; ) {
        const piece = new Uint8Array(Math.min(PIECE, size - at));
        for (let done = 0; done < piece.byteLength; ) {
          const { bytesRead } = await file
            .read(piece, done, piece.byteLength - done, at + done)
            .catch(error => Promise.reject(changed(`${path} cannot be read`, error)));
          if (bytesRead === 0) throw changed(`${path} was cut while it was read`);
          done += bytesRead;
        }
        hash.update(piece);
        at += piece.byteLength;
        // The last piece counts only if all were right.
        if (at === size && hash.digest('hex') !== name)
          throw changed(`${path} has other bytes than were written`);
        yield piece;
      }
    } finally {
      await file.close();
    }
  }

  /**
   * Puts a state in the place of the one before; that is valid until then, and stays so where this one fails.
   *
   * @throws RmError OUTPUT_EXISTS where another run has taken the folder over; the system's errors.
   */
  async save(state: () => Promise<RunState>): Promise<void> {
    if (this.#lock) await this.#lock.check(this.path);
    else {
      await mkdir(this.path, { recursive: true });
      this.#lock = await RunLock.take(this.path);
    }
    this.#added = [];
    try {
      await this.#save(await state());
    } catch (error) {
      // The disk may be full, and the result needs room.
      for (const name of this.#added) await this.#remove(name);
      throw error;
    } finally {
      this.#added = undefined;
    }
  }

  async #save(now: RunState): Promise<void> {
    const needed = namesOf(now);
    for (const [name, kept] of this.#pending) {
      if (!needed.has(name)) continue;
      await this.#write(async function* () {
        yield* kept;
      });
    }
    const body = JSON.stringify(now);
    const head = JSON.stringify({ format: FORMAT, sha256: sha256(body) });
    await this.#replace(STATE, async file => {
      await file.writeFile(`${head}\n${body}\n`);
    });
    await syncFolder(this.path);
    this.#pending.clear();
    for (const name of this.#files) if (!needed.has(name)) await this.#remove(name);
  }

  async #remove(name: string): Promise<void> {
    this.#files.delete(name);
    await rm(join(this.path, name), { force: true });
  }

  /** Forgets bytes that wait for a file and that nothing names any more. */
  forget(names: Iterable<string>, needed: (name: string) => boolean): void {
    for (const name of names) if (!needed(name)) this.#pending.delete(name);
  }

  /** Ends this run's hold on the folder; what is in it stays. */
  async close(): Promise<void> {
    await this.#lock?.release();
    this.#lock = undefined;
  }

  /** Removes the folder: the run is done. */
  async remove(): Promise<void> {
    if (!this.#lock) return;
    await rm(join(this.path, STATE), { force: true });
    await this.close();
    await rm(this.path, { recursive: true, force: true });
  }

  async #write(pieces: Pieces): Promise<string> {
    const rest = pieces()[Symbol.asyncIterator]();
    const taken = [await rest.next(), await rest.next()] as const;
    // Most come in one piece, and what is there already need not be written.
    const known = taken[1].done && !taken[0].done ? sha256(taken[0].value) : '';
    if (this.#files.has(known)) return known;
    const hash = createHash('sha256');
    const temporary = join(this.path, `${randomUUID()}.part`);
    let name = '';
    try {
      const file = await open(temporary, 'wx');
      try {
        for await (const piece of chained(taken, rest)) {
          hash.update(piece);
          await file.writeFile(piece);
        }
        name = hash.digest('hex');
        if (this.#files.has(name)) return name;
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, join(this.path, name));
      this.#files.add(name);
      this.#added?.push(name);
      return name;
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async #replace(
    name: string,
    write: (file: Awaited<ReturnType<typeof open>>) => Promise<void>,
  ): Promise<void> {
    const temporary = join(this.path, `${randomUUID()}.part`);
    try {
      const file = await open(temporary, 'wx');
      try {
        await write(file);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, join(this.path, name));
    } finally {
      await rm(temporary, { force: true });
    }
  }
}

/** What has been taken from an iterator, then the rest of it. */
async function* chained<T>(taken: readonly IteratorResult<T>[], rest: AsyncIterator<T>): AsyncIterable<T> {
  for (const { done, value } of taken) {
    if (done) return;
    yield value;
  }
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
}

const namesOf = ({ done, live }: RunState): Set<string> =>
  new Set([done, live].flatMap(parts => Object.values(parts).flatMap(value => [...namesIn(value)])));

/** Renames are on the disk when their folder is; not every system can be asked for that. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r').catch(() => undefined);
  await folder?.sync().catch(() => {});
  await folder?.close();
}

async function readState(path: string): Promise<RunState> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw changed(`${path} cannot be read`, error);
  }
  const [head = '', body = ''] = text.split('\n');
  let state: RunState;
  try {
    const { format, sha256: expected } = JSON.parse(head) as { format?: string; sha256?: string };
    if (format !== FORMAT) throw new Error(`its format is ${JSON.stringify(format)}, not "${FORMAT}"`);
    if (sha256(body) !== expected) throw new Error('it has other bytes than were written');
    state = JSON.parse(body) as RunState;
  } catch (error) {
    throw changed(`${path}: ${(error as Error).message}`, error);
  }
  if (!stateParts.every(part => isRecord(state[part]))) throw changed(`${path} is incomplete`);
  return state;
}
