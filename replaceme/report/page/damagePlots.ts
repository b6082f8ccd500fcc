import { lastRemoved, type Window } from '../../run/window.js';
import type { DamagePoint } from '../schema/schema.js';
import type { PlotSpec } from './drawing.js';
import type { Figure } from './figure.js';
import type { Markup } from './html.js';
import { logAxis } from './logAxis.js';
import { plotSize } from './lossPlots.js';
import { digits } from './numbers.js';
import { palette } from './palette.js';
import { type Series, seriesEncoding } from './series.js';
import { dataTable } from './table.js';

/** A model, or a stage of its pruning, in plots of hidden-state error. */
interface DamageLine extends Series {
  readonly points: readonly DamagePoint[];
}

type Kind = 'ordinary' | 'sinks';

/** Removed layers as shaded bands. */
const bands = (windows: readonly Window[]) => ({
  data: { values: windows.map(window => ({ from: window.layer + 0.5, to: lastRemoved(window) + 0.5 })) },
  mark: { type: 'rect', color: palette.shade.light },
  encoding: { x: { field: 'from', type: 'quantitative' }, x2: { field: 'to' } },
});

function damageSpec(
  lines: readonly DamageLine[],
  windows: readonly Window[],
  layers: number,
  kind: Kind,
): PlotSpec {
  // Before the first change there is no error, which a logarithm cannot show.
  const values = lines
    .flatMap(({ name, points }) =>
      points.map(point => ({ layer: point.layer, series: name, value: point[kind] ?? 0 })),
    )
    .filter(({ value }) => value > 0);
  const x = {
    ...{ field: 'layer', type: 'quantitative', scale: { domain: [-0.5, layers - 0.5], nice: false } },
    axis: { title: 'layer of the dense model', format: 'd', tickMinStep: 1, tickCount: 8, grid: false },
  };
  const y = {
    ...{ field: 'value', type: 'quantitative' },
    ...logAxis(
      values.map(({ value }) => value),
      'relative error',
    ),
  };
  return {
    ...plotSize,
    layer: [
      bands(windows),
      ...[
        { type: 'line', strokeWidth: 2 },
        { type: 'point', filled: true, opacity: 1, size: 45 },
      ].map(mark => ({ data: { values }, mark, encoding: { x, y, ...seriesEncoding(lines) } })),
    ],
  };
}

function damageTable(id: string, caption: string, lines: readonly DamageLine[], kind: Kind): Markup {
  const layers = [...new Set(lines.flatMap(({ points }) => points.map(({ layer }) => layer)))];
  return dataTable({
    id,
    caption,
    columns: [
      { title: 'Layer', numeric: true },
      ...lines.map(({ name }) => ({ title: name, numeric: true })),
    ],
    groups: [
      {
        rows: layers
          .sort((a, b) => a - b)
          .map(layer => [
            `${layer}`,
            ...lines.map(({ points }) => {
              const value = points.find(point => point.layer === layer)?.[kind];
              return value === undefined || value === null ? '' : digits(value);
            }),
          ]),
      },
    ],
  });
}

function damageFigure(
  lines: readonly DamageLine[],
  windows: readonly Window[],
  layers: number,
  kind: Kind,
): Figure {
  const last = ({ name, points }: DamageLine) => `${name} ${digits(points.at(-1)?.[kind] ?? 0)}`;
  const id = `damage-${kind}`;
  const tokens = kind === 'ordinary' ? 'ordinary tokens' : 'attention sinks';
  return {
    id,
    title: `Hidden-state error by layer: ${tokens}`,
    note:
      kind === 'ordinary'
        ? 'Mean |L′ − L|² / |L|² after each layer of the dense model; removed layers are shaded.'
        : 'The same for first tokens and massive activations, whose size says little about what they carry.',
    description: `Error relative to the dense model over layers 0 to ${layers - 1}, on a logarithmic scale. After the last layer: ${lines.map(last).join(', ')}.`,
    spec: damageSpec(lines, windows, layers, kind),
    table: damageTable(`${id}-numbers`, `Relative error after each layer, ${tokens}`, lines, kind),
  };
}

/** Plots of the hidden-state error after each layer: for ordinary tokens and, where there are some, for attention sinks. */
export function damageFigures(
  lines: readonly DamageLine[],
  windows: readonly Window[],
  layers: number,
): (Figure | undefined)[] {
  const positive = (kind: Kind) => lines.some(({ points }) => points.some(point => (point[kind] ?? 0) > 0));
  return (['ordinary', 'sinks'] as const).map(kind =>
    positive(kind) ? damageFigure(lines, windows, layers, kind) : undefined,
  );
}
