import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import {
  adapterSlug,
  type Baselines,
  compareWithBaseline,
  comparisonText,
  isBaselines,
  withBaseline,
} from '../../bench/baselines.js';
import type { Benchmark, BenchText } from '../../bench/measure.js';
import type { AdapterInfo } from '../../engine/adapterInfo.js';
import { RmError } from '../../engine/errors.js';
import { outputError, writeOutputFile } from '../../model/files/outputError.js';
import { withOutputFile } from '../../model/files/outputFile.js';
import type { FileKind } from '../../model/files/outputKind.js';
import { writableTarget } from '../../model/files/outputPlace.js';
import { formatTable } from '../../replaceme/report/text/textTable.js';
import { inputPaths } from '../inputs/models.js';
import { type CommandText, newCommand, type Run, runs } from '../terminal/command.js';

/** Options of every bench command. */
export interface MeasuringOptions {
  save?: string;
  baseline?: boolean;
  compare?: boolean;
  baselines?: string;
  json?: boolean;
}

/** bench/baselines of the checkout, seen from dist/cli/bench/. */
const baselinesFolder = fileURLToPath(new URL('../../../bench/baselines', import.meta.url));

const withoutTrailingSpace = (text: string): string => text.replace(/ +$/gm, '');

/** A benchmark as text for the terminal. */
export const formatBench = ({ description, tables, remarks = [] }: BenchText): string =>
  withoutTrailingSpace(
    [
      `${description}\n`,
      ...tables.map(({ columns, rows }) => formatTable(columns, rows)),
      ...remarks.map(remark => `${remark}\n`),
    ].join('\n'),
  );

const baselinePath = (folder: string, adapter: AdapterInfo): string =>
  join(folder, `${adapterSlug(adapter)}.json`);

/** The stored baselines, or undefined if there are none. @throws RmError DATA_INVALID */
async function readBaselines(path: string): Promise<Baselines | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new RmError('DATA_INVALID', `${path} cannot be read`, 'Check the path.', { cause: error });
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    parsed = undefined;
  }
  if (isBaselines(parsed)) return parsed;
  throw new RmError(
    'DATA_INVALID',
    `${path} is not a file of baselines`,
    'Remove it and write a new one with --baseline.',
  );
}

/** Files that are read before they are replaced, so that nothing in them is lost. */
const asRead = (name: string): FileKind => ({ name, isOne: () => true });

const replaceFile = (path: string, kind: FileKind, protect: readonly string[], text: string): Promise<void> =>
  withOutputFile(path, kind, { force: true, protect }, temporary => writeOutputFile(temporary, text));

/** A text file to which a section is added; empty if it does not exist. @throws RmError OUTPUT_FAILED, DATA_INVALID. */
async function textBefore(path: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw outputError(error, path);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new RmError('DATA_INVALID', `${path} is not UTF-8 text`, 'Choose a Markdown file.', {
      cause: error,
    });
  }
}

/** Writes the tables into a Markdown file, in place of this adapter's section on this benchmark. */
async function save(
  path: string,
  protect: readonly string[],
  result: Benchmark,
  text: BenchText,
): Promise<void> {
  const { benchmarkSection, withSection } = await import('../../bench/markdown.js');
  const after = withSection(await textBefore(path), result, benchmarkSection(text));
  await replaceFile(path, asRead('a Markdown file'), protect, after);
}

/** A benchmark as a command. */
export interface Measuring<Options extends MeasuringOptions, Result extends Benchmark> extends CommandText {
  /** "prefill" of "bench prefill". */
  readonly name: string;
  readonly options?: (command: Command) => Command;
  readonly measure: (
    run: Run<Options>,
    ...args: readonly (string | string[] | undefined)[]
  ) => Promise<Result>;
  readonly text: (result: Result) => Promise<BenchText>;
}

/** `bench NAME`, with --save, --baseline, --compare and --json. */
export function measuringCommand<Options extends MeasuringOptions, Result extends Benchmark>(
  signal: AbortSignal,
  { name, options, measure, text, ...help }: Measuring<Options, Result>,
): Command {
  const plain = newCommand(`bench ${name}`, help);
  const command = (options?.(plain) ?? plain)
    .option('--save <file>', "write the tables into this adapter's section of a Markdown file")
    .option('--baseline', 'store the numbers as the baseline of this adapter')
    .option('--compare', 'print every number beside the baseline of this adapter')
    .option('--baselines <folder>', 'folder of the baselines (default: bench/baselines of the checkout)')
    .option('--json', 'print one JSON object');
  return runs<Options>(command, signal, async (run, ...args) => {
    const { terminal } = run;
    const { save: document, baseline, compare, baselines = baselinesFolder, json } = run.options;
    const protect = await inputPaths([], args.flat());
    if (document) {
      writableTarget(document, { protect });
      await textBefore(document);
    }
    const result = await measure(run, ...args);
    const benchText = await text(result);
    const path = baselinePath(baselines, result.adapter);
    // Read before --baseline writes over it.
    const before = baseline || compare ? await readBaselines(path) : undefined;
    const comparison = compare && before ? compareWithBaseline(result, before) : undefined;
    if (compare && !before) terminal.warn(`${path} is not there: keep a baseline with --baseline`);
    if (document) await save(document, protect, result, benchText);
    if (baseline) {
      await replaceFile(
        path,
        asRead('a file of baselines'),
        protect,
        `${JSON.stringify(withBaseline(before, result), null, 2)}\n`,
      );
      terminal.note(`baseline: ${path}`);
    }
    if (json) {
      terminal.json({ ...result, ...(comparison && { comparison }) });
      return;
    }
    terminal.data(`${result.adapter.description}\n${formatBench(benchText)}`);
    if (comparison) terminal.data(`\n${formatBench(comparisonText(comparison))}`);
  });
}
