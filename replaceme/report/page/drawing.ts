import type { TopLevelSpec } from 'vega-lite';
import { RmError } from '../../../engine/index.js';
import { shownText } from '../text/shownText.js';
import { escapeHtml } from './html.js';
import { darkDrawingRules, palette } from './palette.js';

/** A Vega-Lite specification without what all plots share: size on the page, fonts, colours of axes. */
export type PlotSpec = Record<string, unknown>;

interface DrawingText {
  /** Unique among the drawings of a document; letters, digits and hyphens. */
  readonly id: string;
  /** What the drawing shows: in a few words, and in sentences for readers who cannot see it. */
  readonly title: string;
  readonly description: string;
}

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

const { ink, muted, axis, rule } = palette;
const words = { labelColor: muted.light, titleColor: ink.light, labelFontSize: 11.5, titleFontSize: 11.5 };
const plain = { titleFontWeight: 'normal' };
const config = {
  // Screen readers get the drawing's title and description; single marks have tooltips.
  aria: false,
  axis: {
    ...words,
    ...plain,
    gridColor: rule.light,
    domainColor: axis.light,
    tickColor: axis.light,
    labelPadding: 4,
    titlePadding: 8,
    tickSize: 4,
  },
  legend: {
    ...words,
    ...plain,
    labelColor: ink.light,
    orient: 'top',
    symbolSize: 70,
    symbolStrokeWidth: 2,
    titlePadding: 6,
    gradientHorizontalMaxLength: 300,
    columnPadding: 4,
    rowPadding: 4,
  },
  header: { ...words, ...plain, labelColor: ink.light },
  view: { stroke: null },
  text: { color: ink.light, fontSize: 12 },
};

/** Removes what browsers don't need from Vega's SVG, about half of it, and turns marks' descriptions into tooltips. */
const tidied = (svg: string): string =>
  svg
    .replace(/<(\w+) aria-label="([^"]*)"([^>]*)\/>/g, '<$1$3><title>$2</title></$1>')
    .replace(/<[^>]*>/g, tag =>
      tag
        .replace(/ (?:role|class|pointer-events|font-family|aria-[a-z]+)="[^"]*"/g, '')
        .replace(/ opacity="1"/, '')
        .replace(/\d+\.\d{3,}/g, digits => `${Math.round(Number(digits) * 100) / 100}`),
    )
    .replace(/<(?:path|line)(?: d="[^"]*")? display="none"\/>/g, '')
    .replace(/<path d="M0,0h0v0h0Z"\/>/g, '')
    .replace(/<g><\/g>/g, '');

/** What installs the plotting library beside rm-engine, in the tested version. */
export const PLOTTING = 'npm install vega@6.4.0 vega-lite@6.4.3';

// Typed as string so that neither compiler nor bundler looks for packages that may be absent.
const [vegaName, vegaLiteName]: readonly string[] = ['vega', 'vega-lite'];

/** Vega and Vega-Lite; undefined where they are not installed. Loading them takes a quarter of a second. */
async function loadVega() {
  try {
    const [vega, vegaLite] = await Promise.all([import(vegaName!), import(vegaLiteName!)]);
    return { ...(vega as typeof import('vega')), ...(vegaLite as typeof import('vega-lite')) };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}

/**
 * The plot as an `svg` element for a page that has `darkDrawingRules`; undefined where Vega is not installed. It needs neither
 * a browser nor a canvas.
 */
export async function drawing(
  spec: PlotSpec,
  { id, title, description }: DrawingText,
): Promise<string | undefined> {
  const loaded = await loadVega();
  if (!loaded) return undefined;
  const { parse, View, compile } = loaded;
  // Warnings about a specification are no concern of users.
  const logger = Object.assign(() => logger, {
    ...{
      level: () => logger,
      error: () => logger,
      warn: () => logger,
      info: () => logger,
      debug: () => logger,
    },
  });
  const whole = { background: null, padding: 2, config, ...spec } as unknown as TopLevelSpec;
  const view = new View(parse(compile(whole, { logger: logger as never }).spec), { renderer: 'none' });
  const svg = await view.toSVG().finally(() => view.finalize());
  const [, width, height] = /width="([\d.]+)" height="([\d.]+)"/.exec(svg)!;
  const content = svg.slice(svg.indexOf('>') + 1, svg.lastIndexOf('</svg>'));
  const names = `aria-labelledby="${id}-title" aria-describedby="${id}-desc"`;
  return `<svg class="drawing" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" ${names}>
<title id="${id}-title">${escapeHtml(title)}</title><desc id="${id}-desc">${escapeHtml(description)}</desc>
${shownText(tidied(content))}</svg>`;
}

/**
 * The plot as a separate SVG document, which follows the viewer's choice of light or dark.
 *
 * @throws RmError OUTPUT_FAILED where Vega is not installed.
 */
export async function svgDocument(spec: PlotSpec, text: DrawingText): Promise<string> {
  const svg = await drawing(spec, text);
  if (svg === undefined) {
    throw new RmError('OUTPUT_FAILED', 'plots are drawn by Vega, which is not installed', `Run: ${PLOTTING}`);
  }
  const open = svg.indexOf('>') + 1;
  return `${svg.slice(0, open).replace('<svg ', `<svg xmlns="http://www.w3.org/2000/svg" font-family='${FONT}' `)}
<style>@media screen and (prefers-color-scheme: dark){.drawing{background:${palette.ground.dark}}
${darkDrawingRules('.drawing')}}</style>
<rect width="100%" height="100%" fill="${palette.ground.light}"/>
${svg.slice(open)}
`;
}
