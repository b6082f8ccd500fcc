import { existsSync } from 'node:fs';
import {
  download,
  ensure,
  entryOf,
  RmError,
  readForm,
  type Scope,
  type Tensor,
  tensorFromBytes,
} from '../../engine/index.js';
import {
  type Architecture,
  openSealedTensors,
  type SealedKind,
  type SealedSource,
  type SealedTensors,
  sealedFile,
  writeSealedTensors,
} from '../../model/index.js';
import type { Calibration } from '../calibration/readCalibration.js';
import { firstDifference, type Recipe, storedValue } from '../run/recipe.js';
import type { WindowChoice } from '../run/windowChoice.js';
import { SHARD } from './shard.js';
import { misfit, type StatisticsContent, statisticsForm } from './statisticsForm.js';
import type { RowSums, StatisticsStore, Sums, SumsKey } from './statisticsStore.js';
import { meansOf } from './statisticsStore.js';

/** Increase the number when the sums change their meaning. */
const kind: SealedKind = {
  format: 'rm-engine statistics 3',
  what: 'statistics file',
  fix: 'Give another statistics file, or move this one away and a new one will be written.',
};

/** How an earlier file is recognised. */
export const statisticsKind = sealedFile(kind);

/** One matrix of some sums. */
export interface StoredMatrix {
  readonly part: string;
  readonly shape: readonly number[];
  /** f32, row-major. */
  readonly bytes: Uint8Array;
}

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
    private readonly content: StatisticsContent,
  ) {}

  /** Opens a file, empty if it does not exist yet. */
  static async open(path: string): Promise<StatisticsFile> {
    if (existsSync(path)) return await StatisticsFile.read(path);
    return new StatisticsFile(path, { recipe: {}, sums: {}, distances: {}, choices: {}, generated: null });
  }

  /** Reads a file that must exist. */
  static async read(path: string): Promise<StatisticsFile> {
    return await withFile(path, async file => new StatisticsFile(path, contentOf(path, file)));
  }

  /** Checks that what the file holds can be of this model. @throws RmError DATA_INVALID. */
  async fits(arch: Architecture): Promise<void> {
    if (!existsSync(this.path)) return;
    const problem = await withFile(this.path, async file =>
      misfit(this.content, arch, name => file.shapeOf(name)),
    );
    if (problem) throw damaged(this.path, problem);
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
    if (!this.has(key)) return undefined;
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
    return [...this.content.sums[name]!.parts];
  }

  /** One matrix of the sums `name`. */
  async matrix(name: string, part: string): Promise<StoredMatrix> {
    const tensor = `${name} ${part}`;
    return await withFile(this.path, async file => ({
      ...{ part, shape: file.shapeOf(tensor), bytes: await file.read(tensor) },
    }));
  }

  async put(key: SumsKey, { tensors, numbers }: Sums): Promise<void> {
    const name = nameOf(key);
    // The file already has the same sums of the same tokens.
    if (this.has(key)) return;
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
    this.content.sums[name] = { numbers, parts: matrices.map(({ part }) => part) };
    await this.#write(
      matrices.map(({ part, shape, bytes }) => ({ name: `${name} ${part}`, shape, bytes: () => bytes })),
    );
  }

  distances(measure: string, count: number): readonly number[] | undefined {
    const values = entryOf(entryOf(this.content.distances, measure) ?? {}, `${count}`);
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
    const cached = entryOf(this.content.choices, key);
    if (cached) return cached;
    const choice = await select();
    this.content.choices[key] = choice;
    await this.#write([]);
    return choice;
  }

  async #write(added: readonly SealedSource[]): Promise<void> {
    const write = (before: readonly SealedSource[]) => {
      const fresh = new Set(added.map(({ name }) => name));
      const all = [...before.filter(({ name }) => !fresh.has(name)), ...added];
      return writeSealedTensors(this.path, kind, this.content, all);
    };
    if (!existsSync(this.path)) return write([]);
    await withFile(this.path, file =>
      write(file.names.map(name => ({ name, shape: file.shapeOf(name), bytes: () => file.read(name) }))),
    );
  }
}

const damaged = (path: string, problem: string): RmError =>
  new RmError('DATA_INVALID', `${path}: not a complete ${kind.what}: ${problem}`, kind.fix);

async function withFile<T>(path: string, work: (file: SealedTensors) => Promise<T>): Promise<T> {
  const file = await openSealedTensors(path, kind);
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

function contentOf(path: string, { description, names }: SealedTensors): StatisticsContent {
  const content = readForm(description, statisticsForm, problem => damaged(path, problem));
  const described = Object.entries(content.sums).flatMap(([name, { parts }]) =>
    parts.map(part => `${name} ${part}`),
  );
  const odd = described.find(name => !names.includes(name)) ?? names.find(name => !described.includes(name));
  if (odd !== undefined)
    throw damaged(path, `"${odd}" is described but not there, or there but not described`);
  return content;
}
