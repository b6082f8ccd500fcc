import { existsSync } from 'node:fs';
import { download, ensure, RmError, type Scope, type Tensor, tensorFromBytes } from '../../engine/index.js';
import {
  isRecord,
  openSafetensorsFile,
  type SafetensorsFile,
  type TensorSource,
  withOutputFile,
  writeSafetensorsFile,
} from '../../model/index.js';
import type { Calibration } from '../calibration/readCalibration.js';
import { firstDifference, type Recipe, shownValue, storedValue } from '../run/recipe.js';
import { sha256 } from '../run/sha256.js';
import type { WindowChoice } from '../run/windowChoice.js';
import { SHARD } from './shard.js';
import type { RowSums, StatisticsStore, Sums, SumsKey } from './statisticsStore.js';
import { meansOf } from './statisticsStore.js';

/** Written into every file; increase the number when the sums change their meaning. */
const FORMAT = 'rm-engine statistics 2';

/** One matrix of some sums. */
export interface StoredMatrix {
  readonly part: string;
  readonly shape: readonly number[];
  /** f32, row-major. */
  readonly bytes: Uint8Array;
}

interface Entry {
  readonly numbers: Readonly<Record<string, number>>;
  /** SHA-256 of the bytes of each matrix. */
  readonly sha256: Readonly<Record<string, string>>;
}

/** The file's metadata, all of it JSON. */
interface Content {
  recipe: Record<string, unknown>;
  sums: Record<string, Entry>;
  distances: Record<string, Record<string, RowSums>>;
  /** Windows that selections chose, by everything that the choice depends on. */
  choices: Record<string, WindowChoice>;
  /** Calibration text that the model wrote. */
  generated: Calibration | null;
}

const parts = ['recipe', 'sums', 'distances', 'choices', 'generated'] as const;

const nameOf = ({ kind, layer, target, weighting }: SumsKey): string =>
  `${kind} ${layer}..${target} ${weighting}`;

/**
 * A safetensors file of sums and window distances, kept from run to run. `agree` checks that the file belongs to the run's
 * model, tokenizer and texts. Every addition writes a whole new file beside the old one and renames it, so that the file
 * is always complete.
 *
 * @throws RmError DATA_INVALID for a damaged file or another kind of file, INVALID_ARGUMENT for a file of other inputs,
 *   OUTPUT_FAILED.
 */
export class StatisticsFile implements StatisticsStore {
  private constructor(
    readonly path: string,
    private readonly content: Content,
  ) {}

  /** Opens a file, empty if it does not exist yet. */
  static async open(path: string): Promise<StatisticsFile> {
    if (existsSync(path)) return await StatisticsFile.read(path);
    return new StatisticsFile(path, { recipe: {}, sums: {}, distances: {}, choices: {}, generated: null });
  }

  /** Reads a file that must exist. */
  static async read(path: string): Promise<StatisticsFile> {
    return await withFile(path, async file => new StatisticsFile(path, contentOf(file)));
  }

  /** Compares this run's recipe with the file's, and adds new entries to the file's. */
  agree(recipe: Recipe): void {
    const difference = firstDifference(this.content.recipe, recipe);
    ensure(
      difference === undefined,
      `${this.path}: differs from this run in ${difference?.description}`,
      difference?.name === SHARD
        ? 'Merge the files of all shards first (rm-engine stats merge), and give the merged file.'
        : 'Give the same inputs as before, or another `statistics` file for these.',
    );
    for (const [name, value] of Object.entries(recipe)) this.content.recipe[name] = storedValue(value);
  }

  /** Everything that the sums depend on. */
  get recipe(): Recipe {
    return this.content.recipe;
  }

  /** Names of all sums. */
  get names(): string[] {
    return Object.keys(this.content.sums);
  }

  /** All window distances. */
  get measures(): { measure: string; count: number; values: RowSums }[] {
    return Object.entries(this.content.distances).flatMap(([measure, byCount]) =>
      Object.entries(byCount).map(([count, values]) => ({ measure, count: Number(count), values })),
    );
  }

  /** Calibration text that the model wrote. */
  get generated(): Calibration | undefined {
    return this.content.generated ?? undefined;
  }

  /** Written to disk with the next sums or distances. */
  set generated(texts: Calibration) {
    this.content.generated = texts;
  }

  has(key: SumsKey): boolean {
    return Object.hasOwn(this.content.sums, nameOf(key));
  }

  async get(key: SumsKey, scope: Scope): Promise<Sums | undefined> {
    const name = nameOf(key);
    if (!this.content.sums[name]) return undefined;
    const tensors: Record<string, Tensor> = {};
    for (const matrix of this.parts(name)) {
      const { part, shape, bytes } = await this.matrix(name, matrix);
      tensors[part] = scope.own(await tensorFromBytes(scope.device, bytes, shape, 'f32', part));
    }
    return { tensors, numbers: this.numbers(name) };
  }

  /** The numbers of the sums `name`. */
  numbers(name: string): Readonly<Record<string, number>> {
    return this.content.sums[name]!.numbers;
  }

  /** The names of the matrices of the sums `name`. */
  parts(name: string): string[] {
    return Object.keys(this.content.sums[name]!.sha256);
  }

  /** One matrix of the sums `name`. */
  async matrix(name: string, part: string): Promise<StoredMatrix> {
    return await withFile(this.path, async file => {
      const stored = file.entries.get(`${name} ${part}`);
      const bytes = stored && (await file.read(stored, 0, stored.end - stored.begin));
      if (!bytes || sha256(bytes) !== this.content.sums[name]!.sha256[part]) {
        throw damaged(this.path, `"${name} ${part}" has changed`);
      }
      return { part, shape: stored.shape, bytes };
    });
  }

  async put(key: SumsKey, { tensors, numbers }: Sums): Promise<void> {
    const name = nameOf(key);
    // The file already has the same sums of the same tokens.
    if (this.content.sums[name]) return;
    const matrices: StoredMatrix[] = [];
    for (const [part, tensor] of Object.entries(tensors)) {
      matrices.push({ part, shape: tensor.shape, bytes: await download(tensor) });
    }
    await this.putMatrices(name, matrices, numbers);
  }

  /** `put` for sums on the host. */
  async putMatrices(
    name: string,
    matrices: readonly StoredMatrix[],
    numbers: Readonly<Record<string, number>>,
  ): Promise<void> {
    const hashes = matrices.map(({ part, bytes }) => [part, sha256(bytes)] as const);
    this.content.sums[name] = { numbers, sha256: Object.fromEntries(hashes) };
    await this.#write(
      matrices.map(({ part, shape, bytes }) => ({
        name: `${name} ${part}`,
        dtype: 'f32',
        shape,
        bytes: () => bytes,
      })),
    );
  }

  distances(measure: string, count: number): readonly number[] | undefined {
    const values = this.content.distances[measure]?.[count];
    return values && meansOf(values);
  }

  async putDistances(measure: string, count: number, values: RowSums): Promise<void> {
    this.content.distances[measure] = { ...this.content.distances[measure], [count]: values };
    await this.#write([]);
  }

  /** Takes over the choices and the generated text of another file for the same tokens. */
  adopt({ content: { choices, generated } }: StatisticsFile): void {
    Object.assign(this.content.choices, choices);
    this.content.generated ??= generated;
  }

  /** Writes the file, even without sums. */
  async save(): Promise<void> {
    await this.#write([]);
  }

  /** The choice that the file holds for `dependencies`, else that of `select`, which it then keeps. */
  async choice(dependencies: readonly unknown[], select: () => Promise<WindowChoice>): Promise<WindowChoice> {
    const key = JSON.stringify(dependencies);
    const cached = this.content.choices[key];
    if (cached) return cached;
    const choice = await select();
    this.content.choices[key] = choice;
    await this.#write([]);
    return choice;
  }

  async #write(added: readonly TensorSource[]): Promise<void> {
    const metadata = {
      format: FORMAT,
      ...Object.fromEntries(parts.map(part => [part, JSON.stringify(this.content[part])])),
    };
    const write = (before: readonly TensorSource[]) => {
      const fresh = new Set(added.map(({ name }) => name));
      const all = [...before.filter(({ name }) => !fresh.has(name)), ...added];
      return withOutputFile(this.path, { force: true }, path =>
        writeSafetensorsFile(path, all, undefined, metadata),
      );
    };
    if (!existsSync(this.path)) return write([]);
    await withFile(this.path, file =>
      write(
        [...file.entries.values()].map(entry => ({
          name: entry.name,
          dtype: 'f32' as const,
          shape: entry.shape,
          bytes: () => file.read(entry, 0, entry.end - entry.begin),
        })),
      ),
    );
  }
}

const damaged = (path: string, problem: string, cause?: unknown): RmError =>
  new RmError(
    'DATA_INVALID',
    `${path}: not a complete statistics file: ${problem}`,
    'Give another statistics file, or move this one away and a new one will be written.',
    { cause },
  );

async function withFile<T>(path: string, work: (file: SafetensorsFile) => Promise<T>): Promise<T> {
  let file: SafetensorsFile;
  try {
    file = await openSafetensorsFile(path);
  } catch (error) {
    throw damaged(path, (error as Error).message, error);
  }
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

function contentOf({ path, entries, metadata }: SafetensorsFile): Content {
  if (metadata.format !== FORMAT) {
    throw damaged(path, `its format is ${shownValue(metadata.format)}, not "${FORMAT}"`);
  }
  let content: Content;
  try {
    content = Object.fromEntries(
      parts.map(part => [part, JSON.parse(metadata[part]!)]),
    ) as unknown as Content;
  } catch (error) {
    throw damaged(path, (error as Error).message, error);
  }
  const { recipe, sums, distances, choices } = content;
  if (![recipe, sums, distances, choices, ...Object.values(sums ?? {})].every(isRecord)) {
    throw damaged(path, 'its description is incomplete');
  }
  for (const [name, { sha256: hashes, numbers }] of Object.entries(sums)) {
    const whole =
      isRecord(hashes) &&
      isRecord(numbers) &&
      Object.keys(hashes).every(part => entries.has(`${name} ${part}`));
    if (!whole) throw damaged(path, `"${name}" is incomplete`);
  }
  return content;
}
