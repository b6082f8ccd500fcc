import { plural } from '../../../engine/index.js';
import type { MeasuredRow } from '../schema/schema.js';
import type { Figure } from './figure.js';
import { logAxis } from './logAxis.js';
import { digits } from './numbers.js';
import { palette } from './palette.js';
import { type Series, type SeriesStyle, seriesEncoding, seriesStyles } from './series.js';
import { dataTable } from './table.js';

/** Styles by number of removed layers, fewest first; repeated where there are more. */
const styles: readonly SeriesStyle[] = [
  seriesStyles.result,
  seriesStyles.plain,
  seriesStyles.fit,
  seriesStyles.other,
  seriesStyles.dense,
];

/** Mean KL of a row over its evaluation files. */
export const meanKl = ({ eval: files }: Pick<MeasuredRow, 'eval'>): number =>
  files.reduce((sum, { kl }) => sum + kl, 0) / files.length;

/** Plots each method's KL at every number of removed layers, the method nearest to the dense model on top. */
export function comparisonFigure(rows: readonly MeasuredRow[], files: number): Figure | undefined {
  const counts = [...new Set(rows.map(({ layers }) => layers))].sort((a, b) => a - b);
  // A logarithm can't show zero, the KL of a method that changes nothing.
  const values = rows
    .map(row => ({ method: row.method, layers: row.layers, kl: meanKl(row) }))
    .filter(({ kl }) => kl > 0);
  if (values.length === 0) return undefined;
  const most = counts.at(-1)!;
  const rank = (method: string) => {
    const own = values.filter(value => value.method === method);
    return (own.find(({ layers }) => layers === most) ?? own.at(-1)!).kl;
  };
  const methods = [...new Set(values.map(({ method }) => method))].sort((a, b) => rank(a) - rank(b));
  const name = (layers: number) => plural(layers, 'layer');
  const series: Series[] = counts.map((count, c) => ({
    name: name(count),
    style: styles[c % styles.length]!,
  }));
  const { color, shape } = seriesEncoding(series);
  const y = {
    ...{ field: 'method', type: 'nominal', title: null, scale: { domain: methods } },
    axis: { labelLimit: 180, labelColor: palette.ink.light, domain: false, ticks: false, grid: true },
  };
  const x = {
    ...{ field: 'kl', type: 'quantitative' },
    ...logAxis(
      values.map(({ kl }) => kl),
      'KL to the dense model (nats)',
    ),
  };
  const find = (method: string, count: number) =>
    values.find(value => value.method === method && value.layers === count);
  const best = counts.flatMap(count => {
    const [first] = values.filter(({ layers }) => layers === count).sort((a, b) => a.kl - b.kl);
    return first ? [`${name(count)}: ${first.method}, ${digits(first.kl)}`] : [];
  });
  return {
    id: 'comparison',
    title: 'KL by method and removed layers',
    note: `Nearer to the left is nearer to the dense model${files > 1 ? '; means over the texts' : ''}. Each sign stands for a number of removed layers.`,
    description: `${plural(methods.length, 'method')} from the nearest to the dense model to the farthest. Least KL at ${best.join('; ')}.`,
    spec: {
      ...{ width: 400, height: 24 * methods.length + 90, autosize: { type: 'fit', contains: 'padding' } },
      data: { values: values.map(value => ({ ...value, series: name(value.layers) })) },
      encoding: { x, y },
      layer: [
        {
          mark: { type: 'line', color: palette.axis.light, strokeWidth: 1 },
          encoding: { detail: { field: 'method' } },
        },
        { mark: { type: 'point', filled: true, opacity: 1, size: 75 }, encoding: { color, shape } },
      ],
    },
    table: dataTable({
      id: 'comparison-numbers',
      caption: `KL in nats${files > 1 ? ', means over the texts' : ''}`,
      columns: [{ title: 'Method' }, ...counts.map(count => ({ title: name(count), numeric: true }))],
      groups: [
        {
          rows: methods.map(method => [
            method,
            ...counts.map(count => {
              const value = find(method, count);
              return value ? digits(value.kl) : '';
            }),
          ]),
        },
      ],
    }),
  };
}
