import type { Window } from '../../run/window.js';
import type { MeasuredWindows } from '../schema/schema.js';
import type { Figure } from './figure.js';
import { type HeatMapMarks, type HeatMeasure, hasMeasure, heatMapSpec, heatMeasures } from './heatMap.js';
import { html } from './html.js';
import { plotSize } from './lossPlots.js';
import { digits, listed, removedLayers } from './numbers.js';
import { palette } from './palette.js';
import { dataTable } from './table.js';

const titles: Readonly<Record<HeatMeasure, string>> = {
  cosine: 'Windows by cosine distance',
  residual: 'Windows by held-out residual',
};
const notes: Readonly<Record<HeatMeasure, string>> = {
  cosine: 'The distance between the hidden states at both ends of a window.',
  residual:
    'The error that the best linear map of the MLP’s output leaves, on text that it was not fitted to.',
};

/** The map in numbers: a row for every count, a column for every layer that stays; chosen windows are bold. */
function windowTable(
  id: string,
  { windows }: MeasuredWindows,
  measure: HeatMeasure,
  chosen: readonly Window[],
) {
  const counts = [...new Set(windows.map(({ count }) => count))].sort((a, b) => a - b);
  const layers = [...new Set(windows.map(({ layer }) => layer))].sort((a, b) => a - b);
  const values = new Map(windows.map(window => [`${window.layer} ${window.count}`, window[measure]!]));
  const cell = (layer: number, count: number) => {
    const value = values.get(`${layer} ${count}`);
    if (value === undefined) return '';
    const isChosen = chosen.some(window => window.layer === layer && window.count === count);
    return isChosen ? html`<strong>${digits(value)}</strong>` : digits(value);
  };
  return dataTable({
    id,
    caption: `${heatMeasures[measure]} by layers removed (rows) and layer that stays (columns)`,
    columns: [
      { title: 'n', numeric: true },
      ...layers.map(layer => ({ title: `i = ${layer}`, numeric: true })),
    ],
    groups: [{ rows: counts.map(count => [`${count}`, ...layers.map(layer => cell(layer, count))]) }],
  });
}

/** A heat map of each available measure. */
export function windowFigures(map: MeasuredWindows | undefined, marks: HeatMapMarks): Figure[] {
  if (!map) return [];
  const chosen = marks.chosen ?? [];
  return (['cosine', 'residual'] as const)
    .filter(measure => hasMeasure(map.windows, measure))
    .map(measure => {
      const ranked = [...map.windows].sort((a, b) => a[measure]! - b[measure]!);
      const value = ({ layer, count }: Window) =>
        map.windows.find(window => window.layer === layer && window.count === count)?.[measure];
      const choices = chosen.map(window => {
        const measured = value(window);
        return `keep ${window.layer}, remove ${removedLayers(window)}${measured === undefined ? '' : ` (${digits(measured)})`}`;
      });
      return {
        id: `windows-${measure}`,
        title: titles[measure],
        note: `${notes[measure]} Framed: the least of its row.`,
        description:
          `${heatMeasures[measure]} of ${map.windows.length} windows, from ${digits(ranked[0]![measure]!)} to ${digits(ranked.at(-1)![measure]!)}.` +
          (choices.length > 0 ? ` Chosen: ${listed(choices)}.` : ''),
        spec: heatMapSpec(map, measure, marks),
        table: windowTable(`windows-${measure}-numbers`, map, measure, chosen),
      };
    });
}

/** Plots the distances of windows of one length, for selections that rank only these. */
export function distanceFigure(
  distances: readonly number[],
  count: number,
  chosen: readonly Window[],
): Figure {
  const values = distances.map((distance, layer) => ({ layer, distance }));
  const x = {
    ...{ field: 'layer', type: 'quantitative' },
    axis: { title: 'layer that stays (i)', format: 'd', tickMinStep: 1, grid: false },
  };
  const y = { field: 'distance', type: 'quantitative', axis: { title: 'distance', tickCount: 5 } };
  const taken = values.filter(({ layer }) => chosen.some(window => window.layer === layer));
  return {
    id: 'distances',
    title: `Windows of ${count} layers by distance`,
    note: 'The distance between the hidden states at both ends of each window; a sign marks the chosen one.',
    description: `From ${digits(Math.min(...distances))} to ${digits(Math.max(...distances))}; chosen: ${listed(taken.map(({ layer, distance }) => `keep ${layer} (${digits(distance)})`))}.`,
    spec: {
      ...plotSize,
      data: { values },
      layer: [
        { mark: { type: 'line', color: palette.ink.light, strokeWidth: 1.5 }, encoding: { x, y } },
        {
          mark: { type: 'point', color: palette.ink.light, filled: true, opacity: 1, size: 25 },
          encoding: { x, y },
        },
        {
          data: { values: taken },
          mark: {
            type: 'point',
            shape: 'diamond',
            color: palette.blue.light,
            filled: true,
            opacity: 1,
            size: 140,
          },
          encoding: { x, y },
        },
      ],
    },
    table: dataTable({
      id: 'distances-numbers',
      caption: 'Distance of each window',
      columns: ['Keep', 'Remove', 'Distance'].map(title => ({ title, numeric: true })),
      groups: [
        {
          rows: values.map(({ layer, distance }) => [
            `${layer}`,
            removedLayers({ layer, count }),
            digits(distance),
          ]),
        },
      ],
      marked: new Set(taken.map(({ layer }) => layer)),
    }),
  };
}
