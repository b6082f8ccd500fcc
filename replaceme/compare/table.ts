import { basename } from 'node:path';
import type { FileScores, Measures } from '../evaluation/modelMeasures.js';
import type { ComparisonRow } from '../report/schema/comparison.js';
import type { CompareReport } from '../report/schema/schema.js';
import { markdownName, markdownText } from '../report/text/markdown.js';
import { type Column, formatTable, markdownTable } from '../report/text/textTable.js';

/** The part of a comparison that tables show. */
export type Compared = Pick<
  CompareReport,
  'model' | 'calibration' | 'recipe' | 'evaluation' | 'adapter' | 'version' | 'dense' | 'rows'
>;

const right = (title: string): Column => ({ title, align: 'right' });

const scores = (evaluated: readonly FileScores[]): string[] =>
  evaluated.flatMap(({ ppl, kl, top1 }) => [
    ppl.toPrecision(5),
    kl.toFixed(4),
    `${(100 * top1).toFixed(1)} %`,
  ]);

const model = ({ parameters, tokensPerSecond }: Measures, fitSeconds: string): string[] => [
  `${(parameters / 1e6).toPrecision(5)} M`,
  fitSeconds,
  tokensPerSecond < 100 ? tokensPerSecond.toPrecision(3) : tokensPerSecond.toFixed(0),
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

/** The rows as a plain-text table. */
export const formatComparison = (comparison: Compared): string =>
  [formatTable(...table(comparison)), ...refusals(comparison).map(line => `${line}\n`)].join('');

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
