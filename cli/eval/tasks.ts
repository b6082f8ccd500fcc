import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder } from '../../engine/cacheFolder.js';
import type { Device } from '../../engine/device.js';
import { outputError } from '../../model/files/outputError.js';
import type { DatasetSplit } from '../../model/hub/datasetRows.js';
import type { Metrics, PreparedTask, TaskResult, TaskSample, TaskSource } from '../../model/tasks/index.js';
import type { TextReader } from '../../model/text/textReader.js';
import type { Model } from '../../model/transformer/model.js';
import { formatTable, right } from '../../replaceme/report/text/textTable.js';
import type { Run } from '../terminal/command.js';
import { version } from '../terminal/version.js';
import { writeLmEvalResults } from './lmEvalResults.js';

/** Options of `eval` for tasks. */
export interface TaskOptions {
  tasks?: string[];
  fewshot?: number;
  fewshotRows?: string[];
  limit?: number;
  /** A folder; false with --no-cache, true by default. */
  cache?: string | boolean;
  samples?: string;
  outputPath?: string;
  batchTokens?: number;
  force?: boolean;
  download?: boolean;
  applyChatTemplate?: boolean;
  /** With a chat template true by default, as in lm-eval. */
  fewshotAsMultiturn?: boolean;
  systemInstruction?: string;
}

/** A model in memory, its folder, and its tokenizer and chat template. */
export interface LoadedModel {
  readonly folder: string;
  readonly model: Model;
  readonly reader: TextReader;
  /** The prompts as this model wants them. */
  readonly tasks: readonly PreparedTask[];
}

/** Results of the model for one task, and of the other one with --against. */
export interface TaskOutcome extends TaskResult {
  readonly against?: TaskResult;
}

/** Finds the tasks of --tasks and their rows. */
export async function taskSources(run: Run<TaskOptions>): Promise<readonly TaskSource[]> {
  const { options } = run;
  if (!options.tasks?.length) return [];
  const { findTasks } = await import('../../model/tasks/index.js');
  const download = options.download
    ? async (rows: DatasetSplit) => {
        const { downloadRows } = await import('../../model/hub/datasetRows.js');
        const { progress: onProgress, signal, terminal } = run;
        const file = await downloadRows(rows, { onProgress, signal });
        terminal.note(`${rows.repo}, ${rows.config}, ${rows.split}: downloaded to ${file}`);
        return file;
      }
    : undefined;
  // Examples of a file need none of the hub's.
  const fewshot = options.fewshotRows ? 0 : options.fewshot;
  return withExamples(run, await findTasks(options.tasks, { download, fewshot }));
}

/** Reads the tasks' rows and builds their prompts for one model. */
export async function prepareTasks(
  { options, terminal }: Run<TaskOptions>,
  sources: readonly TaskSource[],
  { chat }: TextReader,
): Promise<PreparedTask[]> {
  const { fewshot, limit, applyChatTemplate, fewshotAsMultiturn, systemInstruction } = options;
  const { prepareTask } = await import('../../model/tasks/index.js');
  const prepared: PreparedTask[] = [];
  for (const source of sources) {
    const task = await prepareTask(source, {
      ...{ fewshot, limit, fewshotAsMultiturn, systemInstruction },
      ...(applyChatTemplate && { chat }),
    });
    for (const warning of task.warnings) terminal.warn(warning);
    prepared.push(task);
  }
  return prepared;
}

/** Applies --fewshot-rows: FILE for the only task, TASK=FILE for one of several. */
function withExamples(run: Run<TaskOptions>, sources: readonly TaskSource[]): readonly TaskSource[] {
  let result = sources;
  for (const word of run.options.fewshotRows ?? []) {
    const equals = word.indexOf('=');
    const name = equals > 0 ? word.slice(0, equals) : undefined;
    const matches = (source: TaskSource) => name === undefined || source.task.name === name;
    if (name === undefined && sources.length > 1) {
      run.usage(`--fewshot-rows ${word}: with several tasks, write TASK=FILE`);
    }
    if (!sources.some(matches)) run.usage(`--fewshot-rows ${word}: --tasks names no task ${name}`);
    const fewshotRows = word.slice(equals + 1);
    result = result.map(source => (matches(source) ? { ...source, fewshotRows } : source));
  }
  return result;
}

/** The cache file of a model's answers: one for each set of weights, kind of adapter and version of rm-engine. */
async function answersPath(
  folder: string,
  device: Device,
  cache: string | boolean | undefined,
  signal: AbortSignal,
) {
  if (cache === false) return undefined;
  const { weightsFingerprint } = await import('../../model/source/fingerprint.js');
  const name = `${(await weightsFingerprint(folder, signal)).slice(0, 32)}-${device.info.kind}-${version()}.jsonl`;
  return join(typeof cache === 'string' ? cache : join(cacheFolder(), 'answers'), name);
}

/** Evaluates the tasks on the model, and on the other one if given. Appends the answers to `samplesFile`. */
export async function runTasks(
  run: Run<TaskOptions>,
  samplesFile: string | undefined,
  first: LoadedModel,
  against?: LoadedModel,
): Promise<TaskOutcome[]> {
  const results = await runOn(run, first, samplesFile);
  const others = against && (await runOn(run, against, samplesFile));
  const { outputPath } = run.options;
  if (outputPath !== undefined) {
    const all = [
      { model: first.folder, results },
      ...(others ? [{ model: against.folder, results: others }] : []),
    ];
    for (const one of all) {
      run.terminal.note(
        `results in lm-eval's layout: ${await writeLmEvalResults(outputPath, one, first.tasks)}`,
      );
    }
  }
  return results.map((result, i) => ({ ...result, ...(others && { against: others[i]! }) }));
}

async function runOn(
  { options, terminal, progress, signal }: Run<TaskOptions>,
  { folder, model, reader, tasks }: LoadedModel,
  samplesFile: string | undefined,
): Promise<TaskResult[]> {
  const { evaluateTask, RequestCache } = await import('../../model/tasks/index.js');
  const path = await answersPath(folder, model.device, options.cache, signal);
  using cache = path === undefined ? undefined : await RequestCache.open(path);
  if (cache?.disbelieved) {
    terminal.warn(
      `${cache.path}: ${cache.disbelieved} lines are not as they were written, and their answers are computed again`,
    );
  }
  if (cache) terminal.detail(`answers are cached in ${cache.path} (${cache.size} so far)`);
  const results: TaskResult[] = [];
  for (const task of tasks) {
    progress.nextStep();
    const { result, samples } = await evaluateTask(model, reader.tokenizer, task, {
      batchTokens: options.batchTokens,
      cache,
      onProgress: progress,
      signal,
    });
    const { requests, cached } = result;
    if (cached > 0) terminal.note(`${result.task}: ${cached} of ${requests} answers came from the cache`);
    else terminal.detail(`${result.task}: ${requests} requests`);
    results.push(result);
    if (samplesFile !== undefined) await addSamples(samplesFile, folder, samples);
  }
  return results;
}

function addSamples(path: string, model: string, samples: readonly TaskSample[]): Promise<void> {
  const lines = samples.map(sample => `${JSON.stringify({ model, ...sample })}\n`);
  return appendFile(path, lines.join('')).catch(error => Promise.reject(outputError(error, path)));
}

const arrow = (metric: string): string => (metric === 'perplexity' ? '↓' : '↑');
function digits(value: number | undefined): string {
  if (value === undefined) return '';
  return value < 100 ? value.toFixed(4) : value < 1e6 ? value.toPrecision(6) : value.toExponential(3);
}

/** One line per metric, as lm-eval prints them; groups follow their task. */
export function formatTasks(outcomes: readonly TaskOutcome[]): string {
  const compared = outcomes.some(({ against }) => against);
  const columns = [{ title: 'task' }, right('rows'), right('few-shot'), { title: 'metric' }];
  columns.push(right('value'), { title: '± stderr' });
  if (compared) columns.push(right('other model'), { title: '± stderr' });
  const cells = (metrics: Metrics | undefined, metric: string) => {
    const stderr = metrics?.[`${metric}_stderr`];
    return [digits(metrics?.[metric]), stderr === undefined ? '' : `± ${digits(stderr)}`];
  };
  const linesOf = (head: readonly [string, number, string], metrics: Metrics, other?: Metrics) =>
    Object.keys(metrics)
      .filter(name => !name.endsWith('_stderr'))
      .map((metric, i) => [
        ...(i === 0 ? head.map(String) : ['', '', '']),
        `${metric} ${arrow(metric)}`,
        ...cells(metrics, metric),
        ...(compared ? cells(other, metric) : []),
      ]);
  const lines = outcomes.flatMap(({ task, rows, fewshot, metrics, groups = [], against }) => [
    ...linesOf([task, rows, `${fewshot}`], metrics, against?.metrics),
    ...groups.flatMap((group, i) =>
      linesOf([`  ${group.group}`, group.rows, ''], group.metrics, against?.groups?.[i]?.metrics),
    ),
  ]);
  return formatTable(columns, lines);
}
