import { basename, join } from 'node:path';
import { formatBytes, formatSeconds } from '../../engine/format.js';
import { isGgufPath } from '../../model/files/ggufPath.js';
import type { ModelSummary } from '../../model/source/inspectModel.js';
import { besideModel } from '../../model/writing/besideModel.js';
import type { LayerSearch, PruneReport } from '../../replaceme/index.js';
import { shellPath } from '../../replaceme/report/text/shellWord.js';
import { shownName } from '../../replaceme/report/text/shownText.js';
import { formatFields, formatTable, right } from '../../replaceme/report/text/textTable.js';
import { cutToWidth, wrapText } from '../../replaceme/report/text/textWidth.js';
import { onCommandLine } from '../terminal/failure.js';

/** What the table needs of a model folder. */
export type ModelSize = Pick<ModelSummary, 'layers'> & {
  readonly parameters: Pick<ModelSummary['parameters'], 'total'>;
  readonly bytes: Pick<ModelSummary['bytes'], 'weights'>;
};

/** 134515008 -> "134.5 M" */
function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} B`;
  return count >= 1e6 ? `${(count / 1e6).toFixed(1)} M` : count.toLocaleString('en-US');
}

/** " (-18.4 %)" */
const change = (after: number, before: number): string => ` (${((100 * after) / before - 100).toFixed(1)} %)`;

/** Longer names of texts are cut. */
const NAME_COLUMNS = 28;

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

type Role = 'dense' | 'plain' | 'result';
type Row = readonly [name: string, value: (role: Role) => string];

/** What was measured on texts: rows under the name of each. */
function textRows({ texts, models }: NonNullable<PruneReport['evaluation']>): Row[] {
  return texts.flatMap(({ file }, i): Row[] => {
    const scores = (role: Role) => models.find(model => model.role === role)?.eval[i];
    const beside = (value: (found: NonNullable<ReturnType<typeof scores>>) => string) => (role: Role) => {
      const found = role === 'dense' ? undefined : scores(role);
      return found ? value(found) : '';
    };
    return [
      [cutToWidth(shownName(basename(file)), NAME_COLUMNS), () => ''],
      ['  perplexity', role => scores(role)?.ppl.toPrecision(4) ?? ''],
      ['  KL to the original', beside(({ kl }) => (kl < 0.001 ? kl.toFixed(5) : kl.toPrecision(3)))],
      ['  same next token', beside(({ top1 }) => percent(top1))],
    ];
  });
}

function imageRows({ images, models }: NonNullable<PruneReport['imageEvaluation']>): Row[] {
  const of = (role: Role) => models.find(model => model.role === role);
  return [
    [`embeddings of ${images} images`, () => ''],
    ['  cosine to the original', role => of(role)?.cosine.toPrecision(4) ?? ''],
    ['  relative error', role => of(role)?.relativeError.toPrecision(3) ?? ''],
  ];
}

/** Before and after side by side: layers, parameters, bytes, and what was measured. */
export function formatBeforeAfter(
  { evaluation, imageEvaluation }: Pick<PruneReport, 'evaluation' | 'imageEvaluation'>,
  before: ModelSize,
  after: ModelSize,
): string {
  const { total } = before.parameters;
  const { weights } = before.bytes;
  const size = (role: Role, ofOriginal: string, ofPruned: string) =>
    role === 'dense' ? ofOriginal : ofPruned;
  const parameters = formatCount(after.parameters.total) + change(after.parameters.total, total);
  const bytes = formatBytes(after.bytes.weights) + change(after.bytes.weights, weights);
  const rows: Row[] = [
    ['layers', role => size(role, `${before.layers}`, `${after.layers}`)],
    ['parameters', role => size(role, formatCount(total), parameters)],
    ['weights', role => size(role, formatBytes(weights), bytes)],
    ...(evaluation ? textRows(evaluation) : []),
    ...(imageEvaluation ? imageRows(imageEvaluation) : []),
  ];
  const measured = (imageEvaluation ?? evaluation)?.models.map(({ role }) => role) ?? [];
  const roles: Role[] = ['dense', ...(measured.includes('plain') ? ['plain' as const] : []), 'result'];
  const titles = { dense: 'before', plain: 'only removed', result: 'after' };
  return formatTable(
    [{ title: '' }, ...roles.map(role => right(titles[role]))],
    rows.map(([name, value]) => [name, ...roles.map(value)]),
  );
}

/** What the numbers of layers cost that were tried for a budget; the chosen one is marked. */
function formatSearch({ selection, model, output }: PruneReport): string {
  const { search } = selection;
  if (!search) return '';
  const chosen = model.layers - output.layers;
  return formatTable(
    [right('layers removed'), right('KL'), right('same next token'), { title: '' }],
    search.trials.map(({ layers, kl, top1 }) => [
      `${layers}`,
      kl.toPrecision(3),
      percent(top1),
      layers === chosen ? `most within ${inWords(search.budget)}` : '',
    ]),
  );
}

const inWords = ({ maxKl, keepTop1 }: LayerSearch['budget']): string =>
  maxKl === undefined ? `--keep-top1 ${keepTop1}` : `--max-kl ${maxKl}`;

/** Where the report is; undefined where nothing of it was written for people. */
function reportPath({ output, evaluation }: Pick<PruneReport, 'output' | 'evaluation'>): string {
  const name = evaluation ? 'report.html' : 'report.json';
  return isGgufPath(output.path) ? besideModel(output.path, name) : join(output.path, name);
}

/** The result, for people: the table, the verdict, what was removed, and where everything is. */
export function formatResult(
  report: PruneReport,
  {
    before,
    after,
    columns = 80,
  }: { readonly before: ModelSize; readonly after: ModelSize; readonly columns?: number | undefined },
): string {
  const { verdict } = report;
  const said = verdict ? wrapText(onCommandLine(verdict.sentence), columns).join('\n') : '';
  const removed = `${report.summary}, by ${report.method}`;
  const indent = 9;
  return [
    formatBeforeAfter(report, before, after),
    ...(report.selection.search ? [formatSearch(report)] : []),
    ...(said ? [`${said}\n`] : []),
    formatFields([
      ['removed', wrapText(removed, columns - indent).join('\n')],
      ['model', report.output.path],
      ['report', reportPath(report)],
      ['took', formatSeconds(report.seconds)],
    ]),
  ].join('\n');
}

/** What somebody may want to do with the result. */
export const nextSteps = (
  from: string,
  to: string,
  { images = false }: Pick<PruneReport['model'], 'images'>,
): string =>
  images
    ? `next: rm-engine inspect ${shellPath(to)}\n      hf upload ORG/NAME ${shellPath(to)}`
    : [
        `next: rm-engine chat ${shellPath(to)} --against ${shellPath(from)}`,
        `      rm-engine eval ${shellPath(to)} FILE... --against ${shellPath(from)}`,
        `      hf upload ORG/NAME ${shellPath(to)}`,
      ].join('\n');
