import { type Device, ensure, type Journal, type LiveState, type Tensor } from '../../engine/index.js';
import { outputError, SpillFile } from '../../model/index.js';
import { firstDifference, type Recipe } from '../run/recipe.js';
import { CheckpointFolder, type RunState } from './checkpointFolder.js';
import { holdsState } from './runFolder.js';
import {
  loaded,
  namesIn,
  type RestoreDestination,
  restored,
  type Stored,
  stored,
  tensorsIn,
} from './storedValues.js';

/** Saving takes at most this share of the time. */
const SHARE = 0.05;
/** Most bytes that wait in memory for the first save: about what a short run leaves; a long run saves soon anyway. */
const MOST_PENDING = 2 ** 24;
/** After Ctrl-C a run still saves if its last save took no longer than this. */
const QUICK_MS = 1000;

interface JournalOptions {
  /** Seconds between saves, and before the first; more where saving takes long. 0: save after every batch. */
  readonly every: number;
  readonly signal?: AbortSignal | undefined;
  /** Called once with the reason when saving fails; the run continues. */
  readonly onFailure?: ((reason: string) => void) | undefined;
  /** Milliseconds, as performance.now. */
  readonly now?: () => number;
}

/**
 * The journal of one run, kept in a folder. The path of a step, loop or live state joins the names from the outermost to
 * its own. A finished step forgets everything inside it.
 */
export class RunJournal implements Journal {
  readonly #done: Map<string, Stored>;
  readonly #cursors: Map<string, number>;
  /** Live states of the earlier process that this one has not yet tracked. */
  readonly #left: Map<string, Stored>;
  readonly #live = new Map<string, LiveState>();
  /** How often each path was used. */
  readonly #uses = new Map<string, number>();
  readonly #now: () => number;
  #recipe: Record<string, unknown>;
  #path = '';
  /** When the last save ended, and how long it took. */
  #saved: number;
  #duration = 0;
  #failed = false;
  /** Where restored values go. */
  readonly #destination: RestoreDestination;

  private constructor(
    device: Device,
    private readonly folder: CheckpointFolder,
    private readonly options: JournalOptions,
    state: RunState = { recipe: {}, done: {}, cursors: {}, live: {} },
  ) {
    this.#recipe = { ...state.recipe };
    this.#done = new Map(Object.entries(state.done));
    this.#cursors = new Map(Object.entries(state.cursors));
    this.#left = new Map(Object.entries(state.live));
    this.#destination = { device, spillFile: new SpillFile(folder.path) };
    this.#now = options.now ?? (() => performance.now());
    this.#saved = this.#now();
  }

  /** The journal of a new run. */
  static begin(device: Device, path: string, options: JournalOptions): RunJournal {
    return new RunJournal(device, CheckpointFolder.fresh(path), options);
  }

  /**
   * The journal of a run that resumes from the state of an earlier process.
   *
   * @throws RmError OUTPUT_EXISTS where a run still works there, DATA_INVALID for a damaged state.
   */
  static async resume(device: Device, path: string, options: JournalOptions): Promise<RunJournal> {
    const { folder, state } = await CheckpointFolder.open(path);
    try {
      folder.checkComplete(state);
    } catch (error) {
      await folder.close();
      throw error;
    }
    return new RunJournal(device, folder, options, state);
  }

  /**
   * Compares what this run's result depends on with the earlier run's; call it again when more is known.
   *
   * @throws RmError INVALID_ARGUMENT where they differ.
   */
  agree(recipe: Recipe): void {
    const difference = firstDifference(this.#recipe, recipe);
    ensure(
      difference === undefined,
      `${this.folder.path}: differs from this run in ${difference?.description}`,
      'Give the same inputs and options as before to resume, or `restart` to discard the state and start again.',
    );
    Object.assign(this.#recipe, recipe);
  }

  /**
   * Compares where this run keeps what with the earlier one. If it differs, finished work under `kept` stays, and everything
   * else, which depends on places, is dropped.
   *
   * @returns whether it differs.
   */
  move(recipe: Recipe, kept: readonly string[]): boolean {
    const moved = firstDifference(this.#recipe, recipe) !== undefined;
    if (moved) {
      for (const path of this.#done.keys()) if (!kept.includes(path.slice(1))) this.#done.delete(path);
      this.#cursors.clear();
      this.#left.clear();
    }
    Object.assign(this.#recipe, recipe);
    return moved;
  }

  async step<T>(name: string, compute: () => Promise<T>): Promise<T> {
    const path = this.#enter(name);
    const result = this.#done.get(path);
    if (result !== undefined) return (await loaded(result, this.folder, this.#destination)) as T;
    const value = await this.#within(path, compute);
    try {
      await this.#finish(path, value);
      await this.#reached();
      return value;
    } catch (error) {
      for (const tensor of new Set<Tensor>(tensorsIn(value))) tensor.dispose();
      throw error;
    }
  }

  async forEach(
    name: string,
    count: number,
    visit: (index: number) => Promise<void>,
    after?: (index: number) => void,
  ): Promise<void> {
    const path = this.#enter(name);
    if (this.#done.has(path)) return;
    for (let index = this.#cursors.get(path) ?? 0; index < count; index++) {
      const visited = `${path}/${index}`;
      await this.#within(visited, () => visit(index));
      this.#forget(visited);
      this.#cursors.set(path, index + 1);
      await this.#reached();
      after?.(index);
    }
    await this.#finish(path, undefined);
  }

  async track(name: string, state: LiveState): Promise<Disposable> {
    const path = this.#enter(name);
    const left = this.#left.get(path);
    if (left !== undefined) {
      await state.restore((await restored(left, this.folder, this.#destination)) as never);
      this.#left.delete(path);
    }
    this.#live.set(path, state);
    return { [Symbol.dispose]: () => this.#live.delete(path) };
  }

  /** Saves the run's state, unless saving was abandoned. @throws RmError OUTPUT_FAILED, OUTPUT_EXISTS. */
  async save(): Promise<void> {
    if (this.folder.isAbandoned) return;
    const began = this.#now();
    try {
      await this.folder.save(() => this.#state());
    } catch (error) {
      throw outputError(error, this.folder.path);
    } finally {
      this.#saved = this.#now();
      this.#duration = this.#saved - began;
    }
  }

  /** Whether another process could resume the run from its folder. */
  get isKept(): boolean {
    return this.folder.isOpen;
  }

  /** Removes the folder after a finished run. */
  async finish(): Promise<void> {
    await this.folder.remove();
  }

  /** Leaves the folder to another process and drops restored spilled tensors. Returns whether there is a state to resume. */
  async leave(): Promise<boolean> {
    const wasOpen = this.folder.isOpen;
    await this.#destination.spillFile.close();
    await this.folder.close();
    return wasOpen && holdsState(this.folder.path);
  }

  /** A new path for this name at the present place; repeated names are numbered. */
  #enter(name: string): string {
    const path = `${this.#path}/${name}`;
    const before = this.#uses.get(path) ?? 0;
    this.#uses.set(path, before + 1);
    return before === 0 ? path : `${path} (${before + 1})`;
  }

  async #within<T>(path: string, work: () => Promise<T>): Promise<T> {
    const outer = this.#path;
    this.#path = path;
    try {
      return await work();
    } finally {
      this.#path = outer;
    }
  }

  async #finish(path: string, value: unknown): Promise<void> {
    this.#done.set(path, await stored(value, this.folder));
    this.#forget(path);
  }

  /** Drops everything inside a path. */
  #forget(path: string): void {
    const inner = `${path}/`;
    const names: string[] = [];
    for (const [at, value] of this.#done) {
      if (!at.startsWith(inner)) continue;
      names.push(...namesIn(value));
      this.#done.delete(at);
    }
    for (const map of [this.#uses, this.#cursors, this.#left]) {
      for (const at of map.keys()) if (at.startsWith(inner)) map.delete(at);
    }
    this.#cursors.delete(path);
    if (names.length === 0) return;
    const needed = new Set([...this.#done.values()].flatMap(value => [...namesIn(value)]));
    this.folder.forget(names, name => needed.has(name));
  }

  /** Called where the run may be resumed: saves when it is time. */
  async #reached(): Promise<void> {
    const { every, signal } = this.options;
    const least = every === 0 ? 0 : Math.max(1000 * every, this.#duration / SHARE);
    const quick = this.folder.isOpen && this.#duration <= QUICK_MS;
    const full = this.folder.pendingBytes > MOST_PENDING;
    const due = full || this.#now() - this.#saved >= least || (signal?.aborted && quick);
    if (due) {
      await this.save().catch((error: Error) => {
        if (!this.#failed) this.options.onFailure?.(error.message);
        this.#failed = true;
        if (full) this.folder.abandon();
      });
    }
    signal?.throwIfAborted();
  }

  async #state(): Promise<RunState> {
    const live: Record<string, Stored> = Object.fromEntries(this.#left);
    for (const state of this.#live.values()) await state.arrive?.();
    for (const [path, state] of this.#live) live[path] = await stored(await state.save(), this.folder);
    return {
      recipe: this.#recipe,
      done: Object.fromEntries(this.#done),
      cursors: Object.fromEntries(this.#cursors),
      live,
    };
  }
}
