import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PIECE, parseJsonText, RmError, readForm, reasonOf, sha256 } from '../../engine/index.js';
import type { Recipe } from '../run/recipe.js';
import { checkRunFolder, ownName, removeRunFiles, STATE } from './runFolder.js';
import { RunLock } from './runLock.js';
import { headForm, stateForm } from './storedForm.js';
import { type Bytes, changed, namesIn, type Pieces, type Stored } from './storedValues.js';

/** Written into every checkpoint; increase the number when its meaning changes. */
const FORMAT = 'rm-engine checkpoint 1';

/** How far a run has come: plain JSON that names files of bytes. */
export interface RunState {
  readonly recipe: Recipe;
  /** Results of finished steps, by path. */
  readonly done: Readonly<Record<string, Stored>>;
  /** Next index of unfinished loops, by path. */
  readonly cursors: Readonly<Record<string, number>>;
  /** Live states, by path. */
  readonly live: Readonly<Record<string, Stored>>;
}

/**
 * A folder with one state of a run. Bytes are in files named by their SHA-256, so that unchanged bytes are not written
 * again. state.json names these files and replaces the previous one when all of them are on the disk. The next process
 * removes what else of its own a killed process left; files with other names are never touched.
 */
export class CheckpointFolder implements Bytes {
  /** Complete files on the disk. */
  readonly #files = new Set<string>();
  /** Bytes that have no file yet, by name. */
  readonly #pending = new Map<string, readonly Uint8Array[]>();
  /** Whether it keeps nothing more; the folder's contents stay. */
  #abandoned = false;
  /** Files that the save in progress added. */
  #added: string[] | undefined;
  #lock: RunLock | undefined;

  private constructor(readonly path: string) {}

  /** For a new run; the first save creates the folder. */
  static fresh(path: string): CheckpointFolder {
    return new CheckpointFolder(path);
  }

  /**
   * Opens an earlier run's state.
   *
   * @throws RmError OUTPUT_EXISTS where a run still works there, DATA_INVALID for a damaged state.
   */
  static async open(path: string): Promise<{ folder: CheckpointFolder; state: RunState }> {
    const folder = new CheckpointFolder(path);
    folder.#lock = await RunLock.take(path);
    try {
      const state = await readState(join(path, STATE));
      const needed = namesOf(state);
      for (const name of await readdir(path)) {
        if (needed.has(name)) folder.#files.add(name);
        else if (ownName.test(name)) await rm(join(path, name), { force: true }).catch(() => {});
      }
      return { folder, state };
    } catch (error) {
      await folder.#lock.release();
      throw error;
    }
  }

  /** Removes an earlier run's state. @throws RmError OUTPUT_EXISTS where a run still works there. */
  static async discard(path: string): Promise<void> {
    await removeRunFiles(path, await RunLock.take(path));
  }

  /** @throws RmError DATA_INVALID where a file that the state names is missing. */
  checkComplete(state: RunState): void {
    for (const name of namesOf(state)) {
      if (!this.#files.has(name)) throw changed(`${join(this.path, name)} is missing`);
    }
  }

  /** Whether the folder exists and this run holds it. */
  get isOpen(): boolean {
    return this.#lock !== undefined;
  }

  /** Number of bytes in memory that the next save will write. */
  get pendingBytes(): number {
    let bytes = 0;
    for (const pieces of this.#pending.values()) for (const { byteLength } of pieces) bytes += byteLength;
    return bytes;
  }

  get isAbandoned(): boolean {
    return this.#abandoned;
  }

  /** Keeps nothing from now on, so that bytes that cannot be written don't fill up the memory. */
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
        // Keep the bytes in memory: the next save tries again and reports the failure.
        if (this.#added) throw error;
      }
    }
    const inMemory: Uint8Array[] = [];
    const hash = createHash('sha256');
    for await (const piece of pieces()) {
      hash.update(piece);
      inMemory.push(piece);
    }
    const name = hash.digest('hex');
    if (!this.#files.has(name)) this.#pending.set(name, inMemory);
    return name;
  }

  async *get(name: string, byteLength: number): AsyncIterable<Uint8Array> {
    const pending = this.#pending.get(name);
    if (pending) {
      yield* pending;
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
          if (bytesRead === 0) throw changed(`${path} was truncated while it was read`);
          done += bytesRead;
        }
        hash.update(piece);
        at += piece.byteLength;
        // Check the hash before the last piece goes out.
        if (at === size && hash.digest('hex') !== name) throw changed(`the bytes of ${path} have changed`);
        yield piece;
      }
    } finally {
      await file.close();
    }
  }

  /**
   * Replaces the previous state, which stays valid until then, and if the save fails.
   *
   * @throws RmError OUTPUT_EXISTS where another run took over the folder; the system's errors.
   */
  async save(state: () => Promise<RunState>): Promise<void> {
    if (this.#lock) await this.#lock.check(this.path);
    else {
      await mkdir(this.path, { recursive: true });
      // Somebody may have put a folder there since the run began.
      await checkRunFolder(this.path);
      this.#lock = await RunLock.take(this.path);
    }
    this.#added = [];
    try {
      await this.#save(await state());
    } catch (error) {
      // The disk may be full, and the result will need room.
      for (const name of this.#added) await this.#remove(name);
      throw error;
    } finally {
      this.#added = undefined;
    }
  }

  async #save(state: RunState): Promise<void> {
    const needed = namesOf(state);
    for (const [name, pieces] of this.#pending) {
      if (!needed.has(name)) continue;
      await this.#write(async function* () {
        yield* pieces;
      });
    }
    const body = JSON.stringify(state);
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

  /** Drops bytes in memory that nothing names any more. */
  forget(names: Iterable<string>, needed: (name: string) => boolean): void {
    for (const name of names) if (!needed(name)) this.#pending.delete(name);
  }

  /** Releases the folder; its contents stay. */
  async close(): Promise<void> {
    await this.#lock?.release();
    this.#lock = undefined;
  }

  /** Removes the folder after a finished run. */
  async remove(): Promise<void> {
    if (!this.#lock) return;
    const lock = this.#lock;
    this.#lock = undefined;
    await removeRunFiles(this.path, lock);
  }

  async #write(pieces: Pieces): Promise<string> {
    const rest = pieces()[Symbol.asyncIterator]();
    const first = [await rest.next(), await rest.next()] as const;
    // Most bytes come in one piece; if their file is already there, write nothing.
    const onlyPiece = first[1].done && !first[0].done ? sha256(first[0].value) : '';
    if (this.#files.has(onlyPiece)) return onlyPiece;
    const hash = createHash('sha256');
    const temporary = join(this.path, `${randomUUID()}.part`);
    let name = '';
    try {
      const file = await open(temporary, 'wx');
      try {
        for await (const piece of chained(first, rest)) {
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

/** The first results of an iterator, then its rest. */
async function* chained<T>(first: readonly IteratorResult<T>[], rest: AsyncIterator<T>): AsyncIterable<T> {
  for (const { done, value } of first) {
    if (done) return;
    yield value;
  }
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
}

const namesOf = ({ done, live }: RunState): Set<string> =>
  new Set([done, live].flatMap(parts => Object.values(parts).flatMap(value => [...namesIn(value)])));

/** Flushes renames in a folder to the disk, where the system supports it. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r').catch(() => undefined);
  await folder?.sync().catch(() => {});
  await folder?.close();
}

async function readState(path: string): Promise<RunState> {
  let content: string;
  try {
    content = await readFile(path, 'utf8');
  } catch (error) {
    throw changed(`${path} cannot be read`, error);
  }
  const [head = '', body = ''] = content.split('\n');
  const damaged = (problem: string) => changed(`${path}: ${problem}`);
  try {
    const { format, sha256: expected } = readForm(parseJsonText(head), headForm, damaged);
    if (format !== FORMAT) throw damaged(`its format is ${JSON.stringify(format)}, not "${FORMAT}"`);
    if (sha256(body) !== expected) throw damaged('its bytes have changed');
    return readForm(parseJsonText(body), stateForm, damaged);
  } catch (error) {
    throw error instanceof RmError ? error : damaged(reasonOf(error));
  }
}
