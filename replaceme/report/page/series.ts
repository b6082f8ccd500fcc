import { palette } from './palette.js';

/** How a series looks in every plot of a page: never by its colour alone. */
export interface SeriesStyle {
  readonly colour: string;
  /** As Vega names it. */
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

/** An encoding by colour, shape and dash, with a legend of signs. */
export function seriesEncoding(series: readonly Series[]): Record<string, unknown> {
  const domain = series.map(({ name }) => name);
  const channel = (range: readonly unknown[]) => ({
    field: 'series',
    type: 'nominal',
    title: null,
    sort: null,
    scale: { domain, range },
    legend: { columns: 4, symbolOpacity: 1, symbolStrokeWidth: 0 },
  });
  return {
    color: channel(series.map(({ style }) => style.colour)),
    shape: channel(series.map(({ style }) => style.shape)),
    // The dash of a symbol's outline would only blur it.
    strokeDash: { ...channel(series.map(({ style }) => style.dash)), legend: null },
  };
}
