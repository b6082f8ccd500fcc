import type { WindowMap, WindowMeasure } from './windowMap.js';

export type HeatMeasure = 'cosine' | 'residual';

export interface HeatMapOptions {
  readonly measure?: HeatMeasure;
  /** What the map is of: the model's name. */
  readonly title?: string;
}

const CELL = 18;
const LEFT = 62;
const TOP = 56;
const BAR = 10;
/** The most labels along an axis. */
const LABELS = 16;

/** Viridis at equal steps: dark is near, in colours that people with any colour vision tell apart. */
const colours = [
  '#440154',
  '#472d7b',
  '#3b528b',
  '#2c728e',
  '#21918c',
  '#28ae80',
  '#5ec962',
  '#addc30',
  '#fde725',
];

const names: Readonly<Record<HeatMeasure, string>> = {
  cosine: 'mean cosine distance',
  residual: 'held-out residual of the best linear map',
};

const channels = (colour: string) => [1, 3, 5].map(at => Number.parseInt(colour.slice(at, at + 2), 16));

/** The colour at `share` of the way along the scale. */
function colourAt(share: number): string {
  const place = Math.min(1, Math.max(0, share)) * (colours.length - 1);
  const low = Math.min(colours.length - 2, Math.floor(place));
  const [from, to] = [channels(colours[low]!), channels(colours[low + 1]!)];
  const mixed = from.map((value, c) => Math.round(value + (place - low) * (to[c]! - value)));
  return `#${mixed.map(value => value.toString(16).padStart(2, '0')).join('')}`;
}

const escaped = (text: string): string => text.replace(/[&<>"]/g, sign => `&#${sign.charCodeAt(0)};`);

/** Every so many are labelled. */
const labelStep = (count: number): number =>
  [1, 2, 5, 10, 20, 50].find(step => count / step <= LABELS) ?? 100;

/**
 * A picture of the map as an SVG document of its own: a row for every count, a column for every layer that stays, the
 * best window of every row framed. Colours follow the logarithm, since distances span two orders of magnitude; dark and
 * light viewers get a background of theirs.
 */
export function windowHeatMap(
  { windows, layers, tokens }: WindowMap,
  { measure = 'cosine', title = '' }: HeatMapOptions = {},
): string {
  const rows = [...new Set(windows.map(({ count }) => count))].sort((a, b) => a - b);
  const columns = layers - Math.min(...rows);
  const measured = (window: WindowMeasure) => Math.max(window[measure], Number.MIN_VALUE);
  const values = windows.map(measured);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const share = (value: number) => (most > least ? Math.log(value / least) / Math.log(most / least) : 0);
  const width = Math.max(420, LEFT + columns * CELL + 24);
  const bottom = TOP + rows.length * CELL;
  const height = bottom + 92;
  const x = (layer: number) => LEFT + layer * CELL;
  const parts: string[] = [];
  for (const [r, count] of rows.entries()) {
    const row = windows.filter(window => window.count === count);
    const y = TOP + r * CELL;
    for (const window of row) {
      const { layer } = window;
      const removed = count === 1 ? `${layer + 1}` : `${layer + 1}..${layer + count}`;
      const told = `keep ${layer}, remove ${removed}: cosine ${digits(window.cosine)}, residual ${digits(window.residual)}`;
      parts.push(
        `<rect x="${x(layer)}" y="${y}" width="${CELL}" height="${CELL}" fill="${colourAt(share(measured(window)))}"><title>${told}</title></rect>`,
      );
    }
    const best = row.reduce((a, b) => (measured(b) < measured(a) ? b : a));
    parts.push(
      `<rect class="best" x="${x(best.layer) + 1.5}" y="${y + 1.5}" width="${CELL - 3}" height="${CELL - 3}"/>`,
    );
    if (count % labelStep(rows.length) === 0 || rows.length === 1) {
      parts.push(`<text x="${LEFT - 6}" y="${y + CELL / 2 + 4}" text-anchor="end">${count}</text>`);
    }
  }
  for (let layer = 0; layer < columns; layer += labelStep(columns)) {
    parts.push(`<text x="${x(layer) + CELL / 2}" y="${bottom + 14}" text-anchor="middle">${layer}</text>`);
  }
  const middle = TOP + (rows.length * CELL) / 2;
  const bar = bottom + 50;
  const barWidth = 180;
  const stops = colours.map(
    (colour, c) => `<stop offset="${c / (colours.length - 1)}" stop-color="${colour}"/>`,
  );
  const ticks = [0, 0.5, 1].map(
    at =>
      `<text x="${LEFT + at * barWidth}" y="${bar + BAR + 14}" text-anchor="middle">${digits(least * (most / least) ** at)}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>${escaped(title || 'Windows of layers')}: ${names[measure]}</title>
<style>
.ground { fill: #ffffff; }
text { fill: #222222; font: 11px system-ui, sans-serif; }
.heading { font-size: 14px; font-weight: 600; }
.best { fill: none; stroke: #ff3b30; stroke-width: 3; }
@media (prefers-color-scheme: dark) { .ground { fill: #15171a; } text { fill: #e6e6e6; } }
</style>
<defs><linearGradient id="scale">${stops.join('')}</linearGradient></defs>
<rect class="ground" width="${width}" height="${height}"/>
<text class="heading" x="14" y="24">${escaped(title || 'Windows of layers')}</text>
<text x="14" y="42">${names[measure]}, ${tokens} tokens; framed: the least of its row</text>
${parts.join('\n')}
<text x="${LEFT + (columns * CELL) / 2}" y="${bottom + 32}" text-anchor="middle">layer that stays (i)</text>
<text transform="translate(20 ${middle}) rotate(-90)" text-anchor="middle">layers removed (n)</text>
<rect x="${LEFT}" y="${bar}" width="${barWidth}" height="${BAR}" fill="url(#scale)"/>
${ticks.join('\n')}
</svg>
`;
}

const digits = (value: number): string => value.toPrecision(3);
