import { basename } from 'node:path';
import { checkArguments, formatNumber, listOf, plural, record, whole } from '../../engine/index.js';
import type { FileScores, Measures } from '../evaluation/modelMeasures.js';
import type { ComparisonRow, MeasuredRow } from '../report/schema/comparison.js';
import type { CompareReport } from '../report/schema/schema.js';
import { markdownName, markdownText } from '../report/text/markdown.js';
import { shownName } from '../report/text/shownText.js';
import { type Column, formatTable, markdownTable, right } from '../report/text/textTable.js';

/** The part of a comparison that tables show. */
export type Compared = Pick<
  CompareReport,
  'model' | 'calibration' | 'recipe' | 'evaluation' | 'adapter' | 'version' | 'dense' | 'rows'
>;

const scores = (evaluated: readonly FileScores[]): string[] =>
  evaluated.flatMap(({ ppl, kl, top1 }) => [
    formatNumber(ppl, 5),
    kl.toFixed(4),
    `${(100 * top1).toFixed(1)} %`,
  ]);

const model = ({ parameters, tokensPerSecond }: Measures, fitSeconds: string): string[] => [
  `${(parameters / 1e6).toPrecision(5)} M`,
  fitSeconds,
  formatNumber(tokensPerSecond),
];

function cells(row: ComparisonRow, files: number): string[] {
  const { method, layers } = row;
  if ('refused' in row) return [method, `${layers}`, 'refused', ...new Array<string>(3 * files + 3).fill('')];
  const windows = row.windows.map(([layer, count]) => `(${layer}, ${count})`).join(' ');
  return [method, `${layers}`, windows, ...scores(row.eval), ...model(row, row.fitSeconds.toFixed(1))];
}

function table({ dense, rows, evaluation }: Compared): [Column[], string[][]] {
  const columns = [
    { title: 'method' },
    right('removed'),
    { title: 'windows' },
    ...evaluation.flatMap(({ file }) => [
      { ...right('perplexity'), group: { title: basename(file), columns: 3 } },
      right('KL'),
      right('top-1'),
    ]),
    ...['parameters', 'fit s', 'tokens/s'].map(right),
  ];
  const first = ['dense', '0', '', ...scores(dense.eval), ...model(dense, '')];
  return [columns, [first, ...rows.map(row => cells(row, evaluation.length))]];
}

/** A line for each method that refused, with the reason. */
const refusals = ({ rows }: Compared): string[] =>
  rows.flatMap(row => ('refused' in row ? [`${row.method}, ${row.layers} layers: ${row.refused}`] : []));

const measuredRows = ({ rows }: Pick<Compared, 'rows'>): MeasuredRow[] =>
  rows.filter((row): row is MeasuredRow => !('refused' in row));

const meanKl = (row: MeasuredRow): number => row.eval.reduce((sum, { kl }) => sum + kl, 0) / row.eval.length;

/** For each number of removed layers the row that stayed nearest to the unpruned model, by KL over all files. */
export function bestRows(comparison: Pick<Compared, 'rows'>): MeasuredRow[] {
  checkArguments(
    'bestRows',
    { comparison },
    { comparison: record({ rows: listOf(record({ layers: whole() })) }) },
  );
  const measured = measuredRows(comparison);
  return [...new Set(measured.map(({ layers }) => layers))].map(layers =>
    measured
      .filter(row => row.layers === layers)
      .reduce((best, row) => (meanKl(row) < meanKl(best) ? row : best)),
  );
}

/** The rows on one file: narrow enough for 80 columns. The first table has what does not depend on the file. */
function tableOfFile(
  { dense, rows, evaluation }: Compared,
  file: number,
  best: readonly ComparisonRow[],
): string {
  const first = file === 0;
  const columns = [
    { title: 'method' },
    right('removed'),
    ...['perplexity', 'KL', 'top-1'].map(right),
    ...(first ? ['params', 'fit s'].map(right) : []),
  ];
  const size = ({ parameters }: Measures) => `${formatNumber(parameters / 1e6, 4)} M`;
  const blank = columns.slice(3).map(() => '');
  const cellsOf = (row: ComparisonRow) => {
    if ('refused' in row) return [row.method, `${row.layers}`, 'refused', ...blank];
    return [
      `${row.method}${best.includes(row) ? ' *' : ''}`,
      `${row.layers}`,
      ...scores([row.eval[file]!]),
      ...(first ? [size(row), row.fitSeconds.toFixed(1)] : []),
    ];
  };
  const unpruned = ['dense', '0', ...scores([dense.eval[file]!]), ...(first ? [size(dense), ''] : [])];
  const { file: path, tokens } = evaluation[file]!;
  const title = `${shownName(basename(path))}, ${plural(tokens, 'token')}\n`;
  return title + formatTable(columns, [unpruned, ...rows.map(cellsOf)]);
}

/** The rows as plain text: a table for each file, a star at the best rows where there is a choice, the refusals. */
export function formatComparison(comparison: Compared): string {
  checkArguments(
    'formatComparison',
    { comparison },
    { comparison: record({ rows: listOf(record({ layers: whole() })) }) },
  );
  const measured = measuredRows(comparison);
  const best = bestRows(comparison).filter(
    ({ layers }) => measured.filter(row => row.layers === layers).length > 1,
  );
  return [
    comparison.evaluation.map((_, file) => tableOfFile(comparison, file, best)).join('\n'),
    ...(best.length > 0 ? ['* the least KL from the unpruned model with as many layers removed\n'] : []),
    ...refusals(comparison).map(line => `${line}\n`),
  ].join('');
}

/** Of the columns' titles only the names of files are not ours. */
const inMarkdown = ({ group, ...column }: Column): Column =>
  group ? { ...column, group: { ...group, title: markdownName(group.title) } } : column;

/** The rows as a Markdown document: what was compared, the table, the refusals. */
export function comparisonMarkdown(comparison: Compared): string {
  const { model: from, calibration, recipe, evaluation, adapter, version } = comparison;
  const named = (files: readonly { path: string; tokens: number }[]) =>
    files.map(({ path, tokens }) => `${markdownName(basename(path))} (${tokens})`).join(', ');
  const texts = evaluation.map(({ file, tokens }) => ({ path: file, tokens }));
  const [columns, rows] = table(comparison);
  return [
    `# ${markdownName(basename(from.path))}: methods compared`,
    `${from.layers} layers. Calibration tokens: ${named(calibration.files)}. Evaluation tokens: ${named(texts)}. ` +
      `Sequences of ${recipe.sequenceLength} tokens at most. Adapter: ${markdownText(adapter.description)}. Made with ${version}.`,
    'Window (i, n): layer i stays, layers i+1 to i+n are removed. KL: divergence from the dense model in nats. Top-1: share of ' +
      'positions with the same most likely token. Fit: seconds of selection and repair; one pass of the dense model over the ' +
      'calibration tokens, which all rows share, is not counted. Tokens/s: forward pass without the output head.',
    markdownTable(columns.map(inMarkdown), rows).trimEnd(),
    ...refusals(comparison).map(line => `- ${markdownText(line)}`),
    '',
  ].join('\n\n');
}
