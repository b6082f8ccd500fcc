import type { RidgePath } from '../schema/schema.js';
import type { Figure } from './figure.js';
import { logAxis } from './logAxis.js';
import { plotSize } from './lossPlots.js';
import { digits, plural } from './numbers.js';
import { palette } from './palette.js';
import { type Series, seriesEncoding, seriesStyles } from './series.js';
import { dataTable } from './table.js';

const purposes = {
  fit: { title: 'Ridge paths of the fit', of: 'the layers before the windows' },
  healing: { title: 'Ridge paths of the healing', of: 'the layers after the first window' },
} as const;

const projections: readonly (Series & { readonly projection: RidgePath['projection'] })[] = [
  { projection: 'o', name: 'o_proj', style: seriesStyles.other },
  { projection: 'down', name: 'down_proj', style: seriesStyles.result },
];

const nameOf = (projection: RidgePath['projection']): string =>
  projections.find(known => known.projection === projection)!.name;

function ridgeFigure(all: readonly RidgePath[], purpose: RidgePath['purpose']): Figure | undefined {
  const paths = all.filter(path => path.purpose === purpose && path.points.length > 0);
  if (paths.length === 0) return undefined;
  const { title, of } = purposes[purpose];
  const values = paths.flatMap(({ layer, projection, points, chosen }) =>
    points.map(({ ridge, heldOut }) => ({
      ...{
        ridge,
        heldOut,
        line: `${layer} ${projection}`,
        series: nameOf(projection),
        chosen: ridge === chosen,
      },
      text: `layer ${layer}, ${nameOf(projection)}: ridge ${digits(ridge)}, held-out loss ${digits(heldOut, 4)}`,
    })),
  );
  const used = projections.filter(({ projection }) => paths.some(path => path.projection === projection));
  const kept = paths.filter(({ chosen }) => chosen === undefined).length;
  const best = paths.flatMap(
    ({ points, chosen }) => points.find(({ ridge }) => ridge === chosen)?.heldOut ?? [],
  );
  const from = best.length > 0 ? `${digits(Math.min(...best))} to ${digits(Math.max(...best))}` : 'none';
  const { shape, ...lines } = seriesEncoding(used);
  const id = `ridge-${purpose}`;
  // A path that has begun to overfit rises without bound, and would leave the rest no room.
  const most = Math.max(1.02, ...best) * 1.05;
  const points = values.filter(({ heldOut }) => heldOut <= most);
  const x = {
    ...{ field: 'ridge', type: 'quantitative' },
    ...logAxis(
      points.map(({ ridge }) => ridge),
      'ridge λ, weaker to the right',
      true,
    ),
  };
  const y = {
    ...{ field: 'heldOut', type: 'quantitative', scale: { zero: false } },
    axis: { title: 'held-out loss', tickCount: 5 },
  };
  return {
    id,
    title,
    note: `Held-out loss of every regression in ${of}; the chosen ridge carries a sign, and 1 is no better than no change.`,
    description: `${plural(paths.length, 'line')}, one for each projection of each layer. Loss at the chosen ridge: ${from}.${kept > 0 ? ` ${kept} kept their weight.` : ''}`,
    spec: {
      ...plotSize,
      layer: [
        {
          ...{ data: { values: [{}] }, mark: { type: 'rule', color: palette.axis.light } },
          encoding: { y: { datum: 1 } },
        },
        {
          ...{ data: { values: points }, mark: { type: 'line', strokeWidth: 1.5, opacity: 0.8 } },
          encoding: { x, y, detail: { field: 'line' }, ...lines },
        },
        {
          data: { values: points.filter(({ chosen }) => chosen) },
          mark: { type: 'point', aria: true, filled: true, opacity: 1, size: 55 },
          encoding: { x, y, description: { field: 'text' }, shape, color: lines.color },
        },
      ],
    },
    table: dataTable({
      id: `${id}-numbers`,
      caption: 'Chosen ridges and their held-out loss',
      columns: [
        { title: 'Layer', numeric: true },
        { title: 'Projection' },
        { title: 'Ridges tried', numeric: true },
        { title: 'Chosen', numeric: true },
        { title: 'Held-out loss', numeric: true },
      ],
      groups: [
        {
          rows: paths.map(({ layer, projection, points: tried, chosen }) => [
            ...[`${layer}`, nameOf(projection), `${tried.length}`],
            chosen === undefined ? 'kept as it was' : digits(chosen),
            digits(tried.find(({ ridge }) => ridge === chosen)?.heldOut ?? 1, 4),
          ]),
        },
      ],
    }),
  };
}

/** Held-out loss against lambda, of the fit and of the healing. */
export const ridgeFigures = (paths: readonly RidgePath[]): (Figure | undefined)[] => [
  ridgeFigure(paths, 'fit'),
  ridgeFigure(paths, 'healing'),
];
