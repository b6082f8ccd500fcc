import {
  asBytes,
  checkArguments,
  ensure,
  flag,
  listOf,
  objectWith,
  optional,
  RmError,
} from '../../engine/index.js';
import {
  aPath,
  inputPaths,
  maybeFunction,
  runForms,
  settingsAmong,
  withOutputFile,
} from '../../model/index.js';
import { shownValue } from '../run/recipe.js';
import type { RunHooks } from '../run/runHooks.js';
import { parseShard, SHARD, type Shard, shardName, WHOLE } from './shard.js';
import { StatisticsFile, type StoredMatrix, statisticsKind } from './statisticsFile.js';
import type { RowSums } from './statisticsStore.js';

/** The contents of a merged file. */
export interface MergedStatistics {
  readonly path: string;
  /** Number of summed shards; 0 where all files cover all tokens. */
  readonly shards: number;
  /** Names of sums. */
  readonly sums: readonly string[];
  /** Window distances. */
  readonly measures: readonly { readonly measure: string; readonly count: number }[];
}

interface Part {
  readonly file: StatisticsFile;
  readonly shard: Shard;
}

const isWhole = ({ shard }: Part): boolean => shard.of === 1;

const mergeArguments = {
  out: aPath,
  paths: listOf(aPath),
  options: settingsAmong<RunHooks & { force?: boolean }>({
    ...runForms,
    force: optional(flag),
    journal: optional(objectWith('a journal', 'step')),
    onNotice: maybeFunction,
  }),
};

/**
 * Adds up the statistics of all shards of one calibration in a new file, in f64 on the host; sums in 48 bits stay in 48
 * bits. Files of earlier rounds, which cover all tokens, are copied unchanged.
 *
 * @throws RmError INVALID_ARGUMENT for files of different inputs, a missing or repeated shard, or shards with different
 *   sums; DATA_INVALID for a damaged file; OUTPUT_EXISTS, OUTPUT_FAILED.
 */
export async function mergeStatistics(
  out: string,
  paths: readonly string[],
  options: RunHooks & { force?: boolean } = {},
): Promise<MergedStatistics> {
  checkArguments('mergeStatistics', { out, paths, options }, mergeArguments);
  const { force = false, onProgress, signal } = options;
  ensure(paths.length > 0, 'there are no statistics files to merge', 'Name the files of all shards.');
  const parts: Part[] = [];
  for (const path of paths) {
    const file = await StatisticsFile.read(path);
    // Older files name no shard and cover all tokens.
    const shard = file.recipe[SHARD] === undefined ? WHOLE : parseShard(file.recipe[SHARD]);
    if (!shard)
      throw new RmError('DATA_INVALID', `${path}: names no shard`, 'Make it again with rm-engine stats.');
    parts.push({ file, shard });
  }
  const recipe = commonRecipe(parts);
  const [whole, shards] = [parts.filter(isWhole), parts.filter(part => !isWhole(part))];
  checkShards(shards);
  checkNames(whole, shards);
  const output = { force, protect: await inputPaths([], paths) };
  return await withOutputFile(out, statisticsKind, output, async path => {
    const merged = await StatisticsFile.open(path);
    merged.agree({ ...recipe, [SHARD]: shardName(WHOLE) });
    for (const { file } of parts) merged.adopt(file);
    await merged.save();
    const groups = [...whole.map(part => [part]), ...(shards.length > 0 ? [shards] : [])];
    const total = groups.reduce((sum, [first]) => sum + first!.file.names.length, 0);
    let done = 0;
    for (const group of groups) {
      const files = group.map(({ file }) => file);
      for (const { measure, count } of files[0]!.measures) {
        await merged.putDistances(measure, count, summedRows(files, measure, count));
      }
      for (const name of files[0]!.names) {
        signal?.throwIfAborted();
        await merged.putMatrices(name, await summedMatrices(files, name), summedNumbers(files, name));
        onProgress?.({ phase: 'merge', done: ++done, total, unit: 'sums' });
      }
    }
    return {
      path: out,
      shards: shards.length,
      sums: merged.names,
      measures: merged.measures.map(({ measure, count }) => ({ measure, count })),
    };
  });
}

/** The recipe of all files together, which may not contradict each other. */
function commonRecipe(parts: readonly Part[]): Record<string, unknown> {
  const common = new Map<string, { value: unknown; path: string }>();
  for (const { file } of parts) {
    for (const [name, value] of Object.entries(file.recipe)) {
      if (name === SHARD) continue;
      const before = common.get(name);
      ensure(
        !before || JSON.stringify(before.value) === JSON.stringify(value),
        `${file.path}: differs from ${before?.path} in the ${name}: ${shownValue(value)}, not ${shownValue(before?.value)}`,
        'Make all shards with the same model, options and version of rm-engine (give `tokens` and `batchTokens`: their defaults differ between devices).',
      );
      if (!before) common.set(name, { value, path: file.path });
    }
  }
  return Object.fromEntries([...common].map(([name, { value }]) => [name, value]));
}

function checkShards(shards: readonly Part[]): void {
  const first = shards[0];
  if (!first) return;
  const { of } = first.shard;
  const paths = new Map<number, string>();
  for (const { file, shard } of shards) {
    ensure(
      shard.of === of,
      `${file.path} is shard ${shardName(shard)}, ${first.file.path} is shard ${shardName(first.shard)}`,
      'Merge shards of one division only.',
    );
    const before = paths.get(shard.index);
    ensure(
      before === undefined,
      `shard ${shardName(shard)} appears twice: ${before} and ${file.path}`,
      'Name one file per shard.',
    );
    paths.set(shard.index, file.path);
  }
  const missing = Array.from({ length: of }, (_, i) => i + 1).filter(index => !paths.has(index));
  const shown = missing.slice(0, 10).map(index => `${index}/${of}`);
  ensure(
    missing.length === 0,
    `${missing.length === 1 ? 'a shard is' : 'shards are'} missing: ${shown.join(', ')}${missing.length > 10 ? ' ...' : ''}`,
    'Name the files of all shards; make missing ones with rm-engine stats.',
  );
}

/** The sums and distances of a file, in words. */
const contents = ({ file }: Part): string[] => [
  ...file.names,
  ...file.names.flatMap(name =>
    [...file.parts(name), ...Object.keys(file.numbers(name))].map(part => `${name} ${part}`),
  ),
  ...file.measures.map(
    ({ measure, count, values }) => `${measure}, ${values.sums.length} windows of ${count}`,
  ),
];

/** Checks that all shards have the same sums, and that nothing would count twice. */
function checkNames(whole: readonly Part[], shards: readonly Part[]): void {
  const [first, ...others] = shards;
  for (const other of others) {
    const [a, b] = [contents(first!), contents(other)];
    const lacking = a.find(name => !b.includes(name));
    const more = b.find(name => !a.includes(name));
    const [has, lacks] = lacking === undefined ? [other, first!] : [first!, other];
    ensure(
      lacking === undefined && more === undefined,
      `${lacks.file.path} lacks the sums "${lacking ?? more}" of ${has.file.path}`,
      'Make all shards with the same options and the same `statistics` file.',
    );
  }
  const paths = new Map<string, string>();
  for (const part of [...whole, ...shards.slice(0, 1)]) {
    for (const name of contents(part)) {
      const before = paths.get(name);
      ensure(
        before === undefined,
        `"${name}" is in ${before} and in ${part.file.path}, and would count twice`,
        'Leave one of the two out.',
      );
      paths.set(name, part.file.path);
    }
  }
}

function summedRows(files: readonly StatisticsFile[], measure: string, count: number): RowSums {
  const all = files.map(
    file => file.measures.find(other => other.measure === measure && other.count === count)!.values,
  );
  return {
    sums: all[0]!.sums.map((_, layer) => all.reduce((sum, { sums }) => sum + sums[layer]!, 0)),
    rows: all.reduce((sum, { rows }) => sum + rows, 0),
  };
}

const summedNumbers = (files: readonly StatisticsFile[], name: string): Record<string, number> =>
  Object.fromEntries(
    Object.keys(files[0]!.numbers(name)).map(key => [
      key,
      files.reduce((sum, file) => sum + file.numbers(name)[key]!, 0),
    ]),
  );

/** Adds up the matrices of all files. The pair "X hi", "X lo" is summed together and split into two f32 again. */
async function summedMatrices(files: readonly StatisticsFile[], name: string): Promise<StoredMatrix[]> {
  const parts = files[0]!.parts(name);
  const matrices: StoredMatrix[] = [];
  for (const part of parts) {
    if (files.length === 1) {
      matrices.push(await files[0]!.matrix(name, part));
      continue;
    }
    const low = lowOf(part);
    if (parts.some(other => lowOf(other) === part)) continue;
    const { shape, sum } = await addUp(
      files,
      name,
      low !== undefined && parts.includes(low) ? [part, low] : [part],
    );
    const high = Float32Array.from(sum);
    matrices.push({ part, shape, bytes: asBytes(high) });
    if (low === undefined) continue;
    matrices.push({
      part: low,
      shape,
      bytes: asBytes(Float32Array.from(sum, (value, at) => value - high[at]!)),
    });
  }
  return matrices;
}

/** "G lo" for "G hi". */
const lowOf = (part: string): string | undefined =>
  part.endsWith(' hi') ? `${part.slice(0, -2)}lo` : undefined;

async function addUp(
  files: readonly StatisticsFile[],
  name: string,
  parts: readonly string[],
): Promise<{ shape: readonly number[]; sum: Float64Array }> {
  let shape: readonly number[] = [];
  let sum: Float64Array | undefined;
  for (const file of files) {
    for (const part of parts) {
      const matrix = await file.matrix(name, part);
      const { buffer, byteOffset, byteLength } = matrix.bytes;
      const values = new Float32Array(buffer, byteOffset, byteLength / 4);
      shape = matrix.shape;
      sum ??= new Float64Array(values.length);
      ensure(
        sum.length === values.length,
        `${file.path}: "${name} ${part}" has another size than in ${files[0]!.path}`,
        'Make all shards with the same model.',
      );
      for (let at = 0; at < sum.length; at++) sum[at]! += values[at]!;
    }
  }
  return { shape, sum: sum! };
}
