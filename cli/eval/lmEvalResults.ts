import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { outputError, writeOutputFile } from '../../model/files/outputError.js';
import { modelName } from '../../model/hub/locate.js';
import type { Metrics, PreparedTask, TaskResult } from '../../model/tasks/index.js';
import { shownJson } from '../../replaceme/report/text/shownText.js';
import { version } from '../terminal/version.js';

/** A model's results, in the order of the tasks. */
interface ModelResults {
  readonly model: string;
  readonly results: readonly TaskResult[];
}

const STANDARD_ERROR = '_stderr';

/** "acc" is "acc,none" in lm-eval, with the filter of the answers; "exact_match,FILTER" has one already. */
function keyOf(name: string): string {
  const stderr = name.endsWith(STANDARD_ERROR);
  const [metric, filter = 'none'] = (stderr ? name.slice(0, -STANDARD_ERROR.length) : name).split(/,(.*)/s);
  return `${metric}${stderr ? STANDARD_ERROR : ''},${filter}`;
}

const named = (alias: string, rows: number, metrics: Metrics) => ({
  name: alias,
  alias,
  sample_len: rows,
  ...Object.fromEntries(Object.entries(metrics).map(([metric, value]) => [keyOf(metric), value])),
});

const higherIsBetter = (metrics: Metrics) =>
  Object.fromEntries(
    Object.keys(metrics)
      .filter(name => !name.endsWith(STANDARD_ERROR))
      .map(name => name.split(',')[0]!)
      .map(metric => [metric, metric !== 'perplexity']),
  );

/** The results of one model in the layout of lm-eval's results_*.json; tasks in groups are its subtasks. */
export function lmEvalResults({ model, results }: ModelResults, tasks: readonly PreparedTask[], date: Date) {
  const entries = results.flatMap(({ task, rows, metrics, fewshot, groups = [] }, t) => {
    const whole = { name: task, alias: task, rows, metrics, fewshot, original: tasks[t]!.rowsInFile };
    const parts = groups.map(({ group, ...of }) => ({
      ...{ ...of, name: `${task}_${group}`.replaceAll(' ', '_'), alias: ` - ${group}`, fewshot },
      original: of.rows,
    }));
    return [whole, ...parts];
  });
  const byName = <T>(value: (entry: (typeof entries)[number]) => T): Record<string, T> =>
    Object.fromEntries(entries.map(entry => [entry.name, value(entry)]));
  const grouped = results.filter(({ groups }) => groups);
  return {
    results: byName(({ alias, rows, metrics }) => named(alias, rows, metrics)),
    ...(grouped.length > 0 && {
      groups: Object.fromEntries(
        grouped.map(({ task, rows, metrics }) => [task, named(task, rows, metrics)]),
      ),
    }),
    group_subtasks: Object.fromEntries(
      results.map(({ task, groups = [] }) => [
        task,
        groups.map(({ group }) => `${task}_${group}`.replaceAll(' ', '_')),
      ]),
    ),
    configs: Object.fromEntries(
      tasks.map(({ task, fewshot, rowsFile }) => [
        task.name,
        { task: task.name, output_type: task.outputType, num_fewshot: fewshot, rows: rowsFile },
      ]),
    ),
    versions: byName(() => version()),
    'n-shot': byName(({ fewshot }) => fewshot),
    higher_is_better: byName(({ metrics }) => higherIsBetter(metrics)),
    'n-samples': byName(({ original, rows }) => ({ original, effective: rows })),
    config: { model: 'rm-engine', model_args: `pretrained=${model}` },
    date: date.getTime() / 1000,
    model_source: 'rm-engine',
    model_name: modelName(model),
    model_name_sanitized: sanitized(modelName(model)),
  };
}

/** As lm-eval makes a folder's name of a model's. */
const sanitized = (name: string): string => name.replace(/["<>:/|\\?*[\]]+/g, '__');

/**
 * Writes DIR/MODEL/results_DATE.json, as lm-eval's --output_path does: a new file each time.
 *
 * @returns its path.
 * @throws RmError OUTPUT_FAILED.
 */
export async function writeLmEvalResults(
  folder: string,
  results: ModelResults,
  tasks: readonly PreparedTask[],
  date = new Date(),
): Promise<string> {
  const content = lmEvalResults(results, tasks, date);
  const into = join(folder, content.model_name_sanitized);
  try {
    mkdirSync(into, { recursive: true });
  } catch (error) {
    throw outputError(error, into);
  }
  const name = `results_${date.toISOString().replace('Z', '').replaceAll(':', '-')}`;
  let path = join(into, `${name}.json`);
  for (let count = 2; existsSync(path); count++) path = join(into, `${name}-${count}.json`);
  await writeOutputFile(path, `${shownJson(content)}\n`);
  return path;
}
