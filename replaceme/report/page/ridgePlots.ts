import { plural } from '../../../engine/index.js';
import type { RidgePath } from '../schema/schema.js';
import type { PlotSpec } from './drawing.js';
import type { Figure } from './figure.js';
import type { Markup } from './html.js';
import { logAxis } from './logAxis.js';
import { plotSize } from './lossPlots.js';
import { digits } from './numbers.js';
import { palette } from './palette.js';
import { type Series, seriesEncoding, seriesStyles } from './series.js';
import { dataTable } from './table.js';

const purposes = {
  fit: { title: 'Ridge paths of the fit', layers: 'the layers before the windows' },
  healing: { title: 'Ridge paths of the healing', layers: 'the layers after the first window' },
} as const;

const projections: readonly (Series & { readonly projection: RidgePath['projection'] })[] = [
  { projection: 'o', name: 'o_proj', style: seriesStyles.other },
  { projection: 'down', name: 'down_proj', style: seriesStyles.result },
];

const nameOf = (projection: RidgePath['projection']): string =>
  projections.find(series => series.projection === projection)!.name;

const pointsOf = (paths: readonly RidgePath[]) =>
  paths.flatMap(({ layer, projection, points, chosen }) =>
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

/** The held-out losses at the chosen ridges. */
const bestLosses = (paths: readonly RidgePath[]): number[] =>
  paths.flatMap(({ points, chosen }) => points.find(({ ridge }) => ridge === chosen)?.heldOut ?? []);

function ridgeSpec(paths: readonly RidgePath[]): PlotSpec {
  const used = projections.filter(({ projection }) => paths.some(path => path.projection === projection));
  const { shape, ...lines } = seriesEncoding(used);
  // An overfitting path rises without bound and would leave no room for the others.
  const most = Math.max(1.02, ...bestLosses(paths)) * 1.05;
  const points = pointsOf(paths).filter(({ heldOut }) => heldOut <= most);
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
  };
}

const ridgeTable = (id: string, paths: readonly RidgePath[]): Markup =>
  dataTable({
    id,
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
        rows: paths.map(({ layer, projection, points, chosen }) => [
          ...[`${layer}`, nameOf(projection), `${points.length}`],
          chosen === undefined ? 'unchanged' : digits(chosen),
          digits(points.find(({ ridge }) => ridge === chosen)?.heldOut ?? 1, 4),
        ]),
      },
    ],
  });

function ridgeFigure(all: readonly RidgePath[], purpose: RidgePath['purpose']): Figure | undefined {
  const paths = all.filter(path => path.purpose === purpose && path.points.length > 0);
  if (paths.length === 0) return undefined;
  const { title, layers } = purposes[purpose];
  const kept = paths.filter(({ chosen }) => chosen === undefined).length;
  const best = bestLosses(paths);
  const range = best.length > 0 ? `${digits(Math.min(...best))} to ${digits(Math.max(...best))}` : 'none';
  const id = `ridge-${purpose}`;
  return {
    id,
    title,
    note: `Held-out loss of every regression in ${layers}. Signs mark the chosen ridges; a loss of 1 is no better than no change.`,
    description: `${plural(paths.length, 'line')}, one for each projection of each layer. Loss at the chosen ridge: ${range}.${kept > 0 ? ` ${kept} kept their weight.` : ''}`,
    spec: ridgeSpec(paths),
    table: ridgeTable(`${id}-numbers`, paths),
  };
}

/** Plots of held-out loss against ridge, for the fit and for the healing. */
export const ridgeFigures = (paths: readonly RidgePath[]): (Figure | undefined)[] => [
  ridgeFigure(paths, 'fit'),
  ridgeFigure(paths, 'healing'),
];
