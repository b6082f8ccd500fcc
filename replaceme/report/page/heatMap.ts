import type { Window } from '../../run/window.js';
import type { MappedWindow, MeasuredWindows } from '../../selections/index.js';
import { type PlotSpec, svgDocument } from './drawing.js';
import { digits, removedLayers } from './numbers.js';
import { heatColours, palette } from './palette.js';

export type HeatMeasure = 'cosine' | 'residual';

interface HeatMapOptions {
  readonly measure?: HeatMeasure;
  /** The model's name. */
  readonly title?: string;
}

export interface HeatMapMarks {
  readonly chosen?: readonly Window[];
  /** Windows of the sets that were repaired and judged. */
  readonly candidates?: readonly Window[];
}

/** The measures in words. */
export const heatMeasures: Readonly<Record<HeatMeasure, string>> = {
  cosine: 'mean cosine distance',
  residual: 'held-out residual of the best linear map',
};

/** Width of all columns in pixels; one column takes at most MOST. */
const WIDTH = 350;
const MOST = 30;
/** Length of the colour scale, in pixels. */
const LEGEND = 300;
/** Most labels along an axis. */
const LABELS = 16;

/** The step between labels. */
const labelStep = (count: number): number =>
  [1, 2, 5, 10, 20, 50].find(step => count / step <= LABELS) ?? 100;

const labelled = (values: readonly number[]): number[] =>
  values.filter(value => value % labelStep(values.length) === 0 || values.length === 1);

/** The boundaries between colours, in equal steps. */
function thresholds(values: readonly number[]): number[] {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const steps = heatColours.length;
  if (!(most > least)) return [];
  return Array.from({ length: steps - 1 }, (_, k) => least + ((most - least) * (k + 1)) / steps);
}

const { ink, ground } = palette;
/** Visible on any colour: a line of the ground's colour around one of ink. */
const frame = [
  { type: 'rect', fill: null, stroke: ground.light, strokeWidth: 3.5 },
  { type: 'rect', fill: null, stroke: ink.light, strokeWidth: 1.5 },
];

/** Whether all windows have the measure, which a heat map needs. */
export const hasMeasure = (windows: readonly MappedWindow[], measure: HeatMeasure): boolean =>
  windows.length > 0 && windows.every(window => window[measure] !== undefined);

interface Cell extends Window {
  /** Decimal logarithm of the measure. */
  readonly value: number;
  readonly text: string;
}

const sameAs = (a: Window) => (b: Window) => a.layer === b.layer && a.count === b.count;

// Values span orders of magnitude: colours follow the logarithm.
const cellsOf = (windows: readonly MappedWindow[], measure: HeatMeasure): Cell[] =>
  windows.map(window => ({
    layer: window.layer,
    count: window.count,
    value: Math.log10(Math.max(window[measure]!, 1e-30)),
    text:
      `keep ${window.layer}, remove ${removedLayers(window)}: cosine ${digits(window.cosine)}` +
      (window.residual === undefined ? '' : `, residual ${digits(window.residual)}`),
  }));

function cellLayer(cells: readonly Cell[], measure: HeatMeasure): PlotSpec {
  const domain = thresholds(cells.map(({ value }) => value));
  const legend = {
    title: heatMeasures[measure],
    ...{ titleLimit: 0, gradientLength: LEGEND, gradientThickness: 10, labelOverlap: false },
    labelExpr: "datum.index % 2 ? format(pow(10, datum.value), '.2~g') : ''",
  };
  return {
    data: { values: cells },
    mark: { type: 'rect', aria: true, stroke: ground.light, strokeWidth: 0.75 },
    encoding: {
      description: { field: 'text' },
      color: {
        ...{ field: 'value', type: 'quantitative' },
        scale: {
          type: 'threshold',
          domain,
          range: heatColours.slice(0, domain.length + 1).map(c => c.light),
        },
        legend: domain.length === 0 ? null : legend,
      },
    },
  };
}

/** Signs on the chosen windows and on others that were tried, and what signs and frames mean. */
function signLayer(
  cells: readonly Cell[],
  { chosen = [], candidates = [] }: HeatMapMarks,
  step: number,
): PlotSpec {
  const tried = candidates.filter((window, w) => candidates.findIndex(sameAs(window)) === w);
  const signs = [
    ...tried.filter(window => !chosen.some(sameAs(window))).map(window => ({ ...window, sign: 'tried' })),
    ...chosen.map(window => ({ ...window, sign: 'chosen' })),
  ].filter(window => cells.some(sameAs(window)));
  const least = 'least of its row';
  const shape = {
    ...{ field: 'sign', type: 'nominal', title: null },
    scale: { domain: ['chosen', 'tried', least], range: ['diamond', 'circle', 'square'] },
    legend: {
      ...{ symbolStrokeWidth: 1.5, symbolFillColor: ground.light, symbolStrokeColor: ink.light },
      values: [...new Set(signs.map(({ sign }) => sign))].sort().concat(least),
    },
  };
  const size = {
    ...{ field: 'sign', type: 'nominal', legend: null },
    scale: { domain: ['chosen', 'tried'], range: [step * step * 0.32, step * step * 0.12] },
  };
  return {
    data: { values: signs },
    mark: { type: 'point', filled: true, opacity: 1, stroke: ink.light, strokeWidth: 1.5 },
    encoding: { shape, size, color: { value: ground.light } },
  };
}

/**
 * A row for every count, a column for every layer that stays; a frame marks the least of each row. The nearer the ends of a
 * window, the stronger the colour. Windows that were chosen or tried carry a sign.
 */
export function heatMapSpec(
  { windows, layers }: MeasuredWindows,
  measure: HeatMeasure,
  marks: HeatMapMarks = {},
): PlotSpec {
  const counts = [...new Set(windows.map(({ count }) => count))].sort((a, b) => a - b);
  const columns = Array.from({ length: layers - counts[0]! }, (_, layer) => layer);
  const step = Math.min(MOST, WIDTH / columns.length);
  const cells = cellsOf(windows, measure);
  const best = counts.map(count =>
    cells.filter(cell => cell.count === count).reduce((a, b) => (b.value < a.value ? b : a)),
  );
  const channel = (field: keyof Window, domain: readonly number[], title: string) => ({
    ...{ field, type: 'ordinal', scale: { domain, padding: 0 } },
    axis: { title, values: labelled(domain), labelAngle: 0, ticks: false, domain: false, grid: false },
  });
  return {
    ...{ width: { step }, height: { step: Math.min(step, 22) } },
    encoding: {
      x: channel('layer', columns, 'layer that stays (i)'),
      y: channel('count', counts, 'layers removed (n)'),
    },
    layer: [
      cellLayer(cells, measure),
      ...frame.map(mark => ({ data: { values: best }, mark })),
      signLayer(cells, marks, step),
    ],
    resolve: { scale: { color: 'independent' } },
  };
}

/** The map as a separate SVG document, for light and dark ground. */
export function windowHeatMap(
  map: MeasuredWindows,
  { measure = 'cosine', title = '' }: HeatMapOptions = {},
): Promise<string> {
  const name = `${title || 'Windows of layers'}: ${heatMeasures[measure]}`;
  const spec = {
    ...heatMapSpec(map, measure),
    title: {
      ...{ text: title || 'Windows of layers', anchor: 'start', fontSize: 14, color: ink.light, offset: 8 },
      ...{ subtitle: `${heatMeasures[measure]}, ${map.tokens} tokens; framed: the least of its row` },
      ...{ subtitleColor: palette.muted.light, subtitlePadding: 4 },
    },
  };
  const description =
    'A cell for every window: its column is the layer that stays, its row the number of removed layers.';
  return svgDocument(spec, { id: 'windows', title: name, description });
}
