import type { Window } from '../../run/window.js';
import type { MappedWindow, MeasuredWindows } from '../../selections/index.js';
import { type PlotSpec, svgDocument } from './drawing.js';
import { digits, removedLayers } from './numbers.js';
import { heatColours, palette } from './palette.js';

export type HeatMeasure = 'cosine' | 'residual';

export interface HeatMapOptions {
  readonly measure?: HeatMeasure;
  /** What the map is of: the model's name. */
  readonly title?: string;
}

export interface HeatMapMarks {
  readonly chosen?: readonly Window[];
  /** Windows of sets that were repaired and judged. */
  readonly candidates?: readonly Window[];
}

/** What is drawn, in words. */
export const heatMeasures: Readonly<Record<HeatMeasure, string>> = {
  cosine: 'mean cosine distance',
  residual: 'held-out residual of the best linear map',
};

/** Across all columns, in pixels; a column takes no more than MOST. */
const WIDTH = 350;
const MOST = 30;
/** Length of the scale of colours, in pixels. */
const LEGEND = 300;
/** The most labels along an axis. */
const LABELS = 16;

/** Every so many are labelled. */
const labelStep = (count: number): number =>
  [1, 2, 5, 10, 20, 50].find(step => count / step <= LABELS) ?? 100;

const labelled = (values: readonly number[]): number[] =>
  values.filter(value => value % labelStep(values.length) === 0 || values.length === 1);

/** Where one colour ends and the next begins, in equal steps. */
function thresholds(values: readonly number[]): number[] {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const steps = heatColours.length;
  if (!(most > least)) return [];
  return Array.from({ length: steps - 1 }, (_, k) => least + ((most - least) * (k + 1)) / steps);
}

const { ink, ground } = palette;
/** Seen on any colour: a line of the ground's colour with one of ink in it. */
const frame = [
  { type: 'rect', fill: null, stroke: ground.light, strokeWidth: 3.5 },
  { type: 'rect', fill: null, stroke: ink.light, strokeWidth: 1.5 },
];

/** Whether all windows have the measure, as heat maps need it. */
export const hasMeasure = (windows: readonly MappedWindow[], measure: HeatMeasure): boolean =>
  windows.length > 0 && windows.every(window => window[measure] !== undefined);

/**
 * A row for every count, a column for every layer that stays, the least of every row framed. What lies near is strong in
 * colour; windows that were chosen or tried carry a sign.
 */
export function heatMapSpec(
  { windows, layers }: MeasuredWindows,
  measure: HeatMeasure,
  { chosen = [], candidates = [] }: HeatMapMarks = {},
): PlotSpec {
  // Values span orders of magnitude: colours follow the logarithm.
  const measured = (window: MappedWindow) => Math.log10(Math.max(window[measure]!, 1e-30));
  const counts = [...new Set(windows.map(({ count }) => count))].sort((a, b) => a - b);
  const columns = Array.from({ length: layers - counts[0]! }, (_, layer) => layer);
  const step = Math.min(MOST, WIDTH / columns.length);
  const cells = windows.map(window => ({
    ...{ layer: window.layer, count: window.count, value: measured(window) },
    text:
      `keep ${window.layer}, remove ${removedLayers(window)}: cosine ${digits(window.cosine)}` +
      (window.residual === undefined ? '' : `, residual ${digits(window.residual)}`),
  }));
  const best = counts.map(count =>
    cells.filter(cell => cell.count === count).reduce((a, b) => (b.value < a.value ? b : a)),
  );
  const same = (a: Window) => (b: Window) => a.layer === b.layer && a.count === b.count;
  const tried = candidates.filter((window, w) => candidates.findIndex(same(window)) === w);
  const signs = [
    ...tried.filter(window => !chosen.some(same(window))).map(window => ({ ...window, sign: 'tried' })),
    ...chosen.map(window => ({ ...window, sign: 'chosen' })),
  ].filter(window => cells.some(same(window)));
  const domain = thresholds(cells.map(({ value }) => value));
  const axis = (title: string, values: readonly number[]) => ({
    ...{ title, values: labelled(values), labelAngle: 0, ticks: false, domain: false, grid: false },
  });
  return {
    ...{ width: { step }, height: { step: Math.min(step, 22) } },
    encoding: {
      x: {
        ...{ field: 'layer', type: 'ordinal', scale: { domain: columns, padding: 0 } },
        axis: axis('layer that stays (i)', columns),
      },
      y: {
        ...{ field: 'count', type: 'ordinal', scale: { domain: counts, padding: 0 } },
        axis: axis('layers removed (n)', counts),
      },
    },
    layer: [
      {
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
            legend:
              domain.length === 0
                ? null
                : {
                    title: heatMeasures[measure],
                    ...{ titleLimit: 0, gradientLength: LEGEND, gradientThickness: 10, labelOverlap: false },
                    labelExpr: "datum.index % 2 ? format(pow(10, datum.value), '.2~g') : ''",
                  },
          },
        },
      },
      ...frame.map(mark => ({ data: { values: best }, mark })),
      ...(signs.length === 0
        ? []
        : [
            {
              data: { values: signs },
              mark: { type: 'point', filled: true, opacity: 1, stroke: ink.light, strokeWidth: 1.5 },
              encoding: {
                shape: {
                  ...{ field: 'sign', type: 'nominal', title: null },
                  scale: { domain: ['chosen', 'tried'], range: ['diamond', 'circle'] },
                  legend: {
                    ...{
                      symbolStrokeWidth: 1.5,
                      symbolFillColor: ground.light,
                      symbolStrokeColor: ink.light,
                    },
                    values: [...new Set(signs.map(({ sign }) => sign))].sort(),
                  },
                },
                size: {
                  ...{ field: 'sign', type: 'nominal', legend: null },
                  scale: { domain: ['chosen', 'tried'], range: [step * step * 0.32, step * step * 0.12] },
                },
                color: { value: ground.light },
              },
            },
          ]),
    ],
    resolve: { scale: { color: 'independent' } },
  };
}

/** A picture of the map as an SVG document of its own, for viewers on light and dark ground. */
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
    'A cell for every window: its column is the layer that stays, its row how many layers are removed.';
  return svgDocument(spec, { id: 'windows', title: name, description });
}
