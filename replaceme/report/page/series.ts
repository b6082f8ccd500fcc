import { palette } from './palette.js';

/** The look of a series in every plot of a page; series never differ by colour alone. */
export interface SeriesStyle {
  readonly colour: string;
  /** Vega's name of the shape. */
  readonly shape: string;
  readonly dash: readonly number[];
}

const { ink, vermillion, green, blue, purple } = palette;

export const seriesStyles = {
  dense: { colour: ink.light, shape: 'circle', dash: [1, 0] },
  plain: { colour: vermillion.light, shape: 'square', dash: [6, 3] },
  fit: { colour: green.light, shape: 'triangle-up', dash: [2, 2] },
  result: { colour: blue.light, shape: 'diamond', dash: [1, 0] },
  other: { colour: purple.light, shape: 'cross', dash: [8, 3, 2, 3] },
} as const satisfies Record<string, SeriesStyle>;

export interface Series {
  readonly name: string;
  readonly style: SeriesStyle;
}

/** In pixels: the greatest width of a legend, and the widths of a letter and of a sign with the space around it. */
const [ROOM, LETTER, SIGN] = [290, 6.2, 28];

/** The number of columns of a legend whose columns are as wide as their longest names. */
function legendColumns(names: readonly string[]): number {
  const width = (columns: number) =>
    Array.from({ length: Math.min(columns, names.length) }, (_, column) => {
      const lengths = names.filter((_, i) => i % columns === column).map(({ length }) => length);
      return SIGN + LETTER * Math.max(...lengths);
    }).reduce((sum, wide) => sum + wide, 0);
  return [4, 3, 2].find(columns => width(columns) <= ROOM) ?? 1;
}

/** An encoding by colour, shape and dash, with a legend of signs. */
export function seriesEncoding(series: readonly Series[]): Record<string, unknown> {
  const domain = series.map(({ name }) => name);
  const channel = (range: readonly unknown[]) => ({
    field: 'series',
    type: 'nominal',
    title: null,
    sort: null,
    scale: { domain, range },
    legend: { columns: legendColumns(domain), symbolOpacity: 1, symbolStrokeWidth: 0 },
  });
  return {
    color: channel(series.map(({ style }) => style.colour)),
    shape: channel(series.map(({ style }) => style.shape)),
    // A dashed outline would blur the legend's symbols.
    strokeDash: { ...channel(series.map(({ style }) => style.dash)), legend: null },
  };
}
