import { entryOf } from '../../engine/index.js';
import { invalidData } from '../files/textFiles.js';
import type { Task } from './taskFile.js';
import type { TaskRow } from './taskRows.js';
import { askAboutTask } from './templates.js';

/** The seed that lm-eval draws examples with. */
const SEED = 1234;

/** Where examples come from. */
export interface ExampleSource {
  /** Undefined: from the rows themselves, without those equal to the row in question. */
  readonly examples: readonly TaskRow[] | undefined;
  readonly rows: readonly TaskRow[];
  /** Examples before every row. */
  readonly fewshot: number;
}

/**
 * Chooses the few-shot examples of every row, from its own group: the first ones, or those that lm-eval draws for it. That
 * depends on the rows before it.
 *
 * @throws RmError DATA_INVALID where there are too few.
 */
export async function chooseExamples(
  task: Task,
  rows: readonly TaskRow[],
  source: ExampleSource,
): Promise<ReadonlyMap<TaskRow, readonly TaskRow[]>> {
  const { fewshot } = source;
  if (fewshot === 0) return new Map(rows.map(row => [row, []]));
  const own = source.examples === undefined;
  const pools = grouped(source.examples ?? source.rows, row => groupOf(task, row));
  const chosen = new Map<TaskRow, readonly TaskRow[]>();
  for (const [group, ofGroup] of grouped(rows, row => groupOf(task, row))) {
    const pool = pools.get(group) ?? [];
    const indicesOf = own ? grouped([...pool.keys()], i => textOf(pool[i]!)) : undefined;
    const equals = ofGroup.map(row => indicesOf?.get(textOf(row)) ?? null);
    for (const [i, row] of ofGroup.entries()) {
      checkEnough(task, row, fewshot, pool.length - (equals[i]?.length ?? 0));
    }
    const indices =
      task.sampler === 'first_n'
        ? equals.map(equal => firstOf(pool.length, fewshot, equal))
        : await drawn(task, pool.length, fewshot, equals);
    for (const [i, row] of ofGroup.entries()) {
      chosen.set(
        row,
        indices[i]!.map(at => pool[at]!),
      );
    }
  }
  return chosen;
}

const textOf = (row: TaskRow): string => JSON.stringify(row.values);

function grouped<T, K>(items: readonly T[], keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key) ?? [];
    group.push(item);
    groups.set(key, group);
  }
  return groups;
}

const groupOf = (task: Task, { values }: TaskRow): unknown =>
  task.groupBy === undefined ? undefined : entryOf(values, task.groupBy);

function checkEnough(task: Task, { where }: TaskRow, fewshot: number, others: number): void {
  if (others >= fewshot) return;
  const which = task.groupBy === undefined ? '' : ` with the same "${task.groupBy}"`;
  throw invalidData(
    `${where}: ${fewshot} examples are requested, but there are only ${others} other rows${which}`,
    'Use a smaller `fewshot`, or give more rows as `fewshotRows`.',
  );
}

/** Indices below `size` from the first on, without those of `equal`. */
function firstOf(size: number, count: number, equal: readonly number[] | null): number[] {
  const indices: number[] = [];
  for (let i = 0; i < size && indices.length < count; i++) if (!equal?.includes(i)) indices.push(i);
  return indices;
}

/** As Python's random.Random(SEED).sample gives them. */
const drawn = (
  task: Task,
  size: number,
  shots: number,
  own: readonly (readonly number[] | null)[],
): Promise<number[][]> => askAboutTask(task.path, { kind: 'draw examples', size, shots, own, seed: SEED });
