import { basename } from 'node:path';
import { plural } from '../../../engine/index.js';
import type { CompareReport, MeasuredRow } from '../schema/schema.js';
import { comparisonFigure, meanKl } from './comparisonPlot.js';
import { damageFigures } from './damagePlots.js';
import { figures } from './figure.js';
import { type Content, html, type Markup } from './html.js';
import { lossFigures } from './lossPlots.js';
import { counted, digits, fixed, listed, percent } from './numbers.js';
import type { PageContent } from './prunePage.js';
import { ridgeFigures } from './ridgePlots.js';
import { costSection, definitions, repeatSection, type Section, samplesSection } from './sections.js';
import { type SeriesStyle, seriesStyles } from './series.js';
import { dataTable } from './table.js';
import { windowFigures } from './windowPlots.js';

const named = (texts: readonly { path: string; tokens: number }[]): string =>
  texts.map(({ path, tokens }) => `${basename(path)} (${plural(tokens, 'token')})`).join(', ');
const isMeasured = (row: CompareReport['rows'][number]): row is MeasuredRow => !('refused' in row);
const nearest = (rows: readonly MeasuredRow[]): MeasuredRow[] =>
  [...rows].sort((a, b) => meanKl(a) - meanKl(b));
const windowsOf = ({ windows }: MeasuredRow) => windows.map(([layer, count]) => ({ layer, count }));

/** With the most layers removed: plain removal, and the rows nearest to the dense model, as many as there are styles. */
function highlights(rows: readonly MeasuredRow[]): { row: MeasuredRow; style: SeriesStyle; name: string }[] {
  const most = Math.max(...rows.map(({ layers }) => layers));
  const last = rows.filter(({ layers }) => layers === most);
  const plain = last.find(({ method }) => method === 'plain');
  const best = nearest(last.filter(row => row !== plain)).slice(0, 3);
  const styles = [seriesStyles.result, seriesStyles.fit, seriesStyles.other];
  return [
    ...(plain ? [{ row: plain, style: seriesStyles.plain, name: plain.method }] : []),
    ...best.map((row, r) => ({ row, style: styles[r]!, name: row.method })),
  ];
}

function rowsTable({ dense, rows, evaluation }: CompareReport): Markup {
  const measures = (row: Pick<MeasuredRow, 'eval' | 'parameters' | 'tokensPerSecond'>): string[] => [
    ...row.eval.flatMap(({ ppl, kl, top1 }) => [digits(ppl, 5), fixed(kl, 4), percent(top1)]),
    counted(row.parameters),
    digits(row.tokensPerSecond),
  ];
  const counts = [...new Set(rows.map(({ layers }) => layers))].sort((a, b) => a - b);
  const inOrder = counts.map(count => rows.filter(({ layers }) => layers === count));
  const best = new Set(
    inOrder.map(group => nearest(group.filter(isMeasured))[0]).filter(row => row !== undefined),
  ) as ReadonlySet<CompareReport['rows'][number]>;
  const blank = new Array<string>(3 * evaluation.length + 3).fill('');
  const cells = (row: CompareReport['rows'][number]): Content[] =>
    isMeasured(row)
      ? [
          html`${row.method}${best.has(row) && html` <span class="small">nearest</span>`}`,
          html`<span class="windows">${row.windows.map(([layer, count]) => `(${layer}, ${count})`).join(' ')}</span>`,
          ...measures(row),
          digits(row.fitSeconds),
        ]
      : [row.method, 'refused', ...blank];
  const ordered = [undefined, ...inOrder.flat()];
  return dataTable({
    id: 'rows',
    caption: 'All methods. Window (i, n): layer i stays and is patched, the n layers after it are removed',
    columns: [
      { title: 'Method' },
      { title: 'Windows' },
      ...evaluation.flatMap(({ file }) => [
        { title: 'Perplexity', numeric: true, group: { title: basename(file), columns: 3 } },
        { title: 'KL', numeric: true },
        { title: 'Top-1', numeric: true },
      ]),
      { title: 'Parameters', numeric: true },
      { title: 'Tokens/s', numeric: true },
      { title: 'Fit s', numeric: true },
    ],
    groups: [
      { rows: [['dense', '', ...measures(dense), '']] },
      ...inOrder.map((group, c) => ({
        title: `${plural(counts[c]!, 'layer')} removed`,
        rows: group.map(cells),
      })),
    ],
    marked: new Set(ordered.flatMap((row, r) => (row && best.has(row) ? [r] : []))),
  });
}

function qualitySection(
  report: CompareReport,
  measured: readonly MeasuredRow[],
  plot: Markup | undefined,
): Section {
  const refusals = report.rows.flatMap(row => ('refused' in row ? [row] : []));
  return {
    id: 'quality',
    question: 'How good are they?',
    short: 'Quality',
    content: html`${plot}${rowsTable(report)}
${refusals.length > 0 && html`<h3>Refused</h3><ul>${refusals.map(({ method, layers, refused }) => html`<li>${method}, ${plural(layers, 'layer')}: ${refused}</li>\n`)}</ul>`}
${measured.some(({ warnings }) => warnings.length > 0) && html`<h3>Warnings of methods</h3><ul>${measured.flatMap(({ method, layers, warnings }) => warnings.map(warning => html`<li>${method}, ${plural(layers, 'layer')}: ${warning}</li>\n`))}</ul>`}`,
  };
}

/** The page of `compare`, question by question. */
export async function comparePage(report: CompareReport): Promise<PageContent> {
  const { dense, evaluation, windowMap, model } = report;
  const measured = report.rows.filter(isMeasured);
  const counts = [...new Set(report.rows.map(({ layers }) => layers))].sort((a, b) => a - b);
  const methods = new Set(report.rows.map(({ method }) => method)).size;
  const bestOf = counts.flatMap(count => nearest(measured.filter(({ layers }) => layers === count))[0] ?? []);
  const shown = measured.length > 0 ? highlights(measured) : [];
  const best = bestOf.at(-1);
  const lines = shown.flatMap(({ row, style, name }) =>
    row.damageByLayer ? [{ name, style, points: row.damageByLayer }] : [],
  );
  const losses = [
    { name: 'dense', style: seriesStyles.dense, losses: dense.lossByPosition },
    ...shown.map(({ row, style, name }) => ({ name, style, losses: row.lossByPosition })),
  ];
  const damage =
    best && (await figures([...damageFigures(lines, windowsOf(best), model.layers), ...lossFigures(losses)]));
  const chosen = bestOf.flatMap(windowsOf);
  const maps = await figures(windowFigures(windowMap, { chosen }));
  const ridges = best && (await figures(ridgeFigures(best.ridgePaths)));
  const comparison = await figures([comparisonFigure(measured, evaluation.length)]);
  const texts = [
    ...report.calibration.files,
    ...evaluation.map(({ file, sha256 }) => ({ path: file, sha256 })),
  ];
  return {
    title: `${basename(model.path)}: ${plural(methods, 'method')} compared, ${listed(counts)} of ${plural(model.layers, 'layer')} removed`,
    facts: bestOf.map(row => ({
      name: `Nearest with ${plural(row.layers, 'layer')} removed`,
      value: row.method,
      note: `KL ${digits(meanKl(row))}, ${percent(row.eval.reduce((sum, { top1 }) => sum + top1, 0) / row.eval.length)} top-1 agreement`,
    })),
    sections: [
      {
        id: 'done',
        question: 'What was done?',
        short: 'What was done',
        content: definitions([
          ['Methods', [...new Set(report.rows.map(({ method }) => method))].join(', ')],
          ['Removed', `${listed(counts)} of ${plural(model.layers, 'layer')}`],
          ['Calibration', named(report.calibration.files)],
          ['Evaluation', named(evaluation.map(({ file, tokens }) => ({ path: file, tokens })))],
        ]),
      },
      qualitySection(report, measured, comparison),
      damage && {
        id: 'damage',
        question: 'Where does the damage arise?',
        short: 'Damage',
        content: html`<p>With ${plural(best.layers, 'layer')} removed, ${shown.some(({ row }) => row.method === 'plain') && 'plain removal and '}the methods nearest to the dense model.${lines.length > 0 && ` Shaded: the layers that ${best.method} removed.`}</p>${damage}`,
      },
      maps && {
        id: 'choice',
        question: 'Which windows?',
        short: 'Windows',
        content: html`<p>Marked as chosen: the windows of the nearest method at each number of layers, ${listed(bestOf.map(({ method, layers }) => `${method} (${layers})`))}.</p>${maps}`,
      },
      ridges && {
        id: 'fit',
        question: 'Was the fit sound?',
        short: 'Fit',
        content: html`<p>The regressions of ${best.method}, ${plural(best.layers, 'layer')} removed.</p>${ridges}`,
      },
      samplesSection(report.samples),
      await costSection(report),
      repeatSection(report, texts),
    ],
  };
}
