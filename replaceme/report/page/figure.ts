import { drawing, PLOTTING, type PlotSpec } from './drawing.js';
import { type Content, html, Markup } from './html.js';

/** A plot with its content in words and in numbers. */
export interface Figure {
  readonly id: string;
  readonly title: string;
  /** Below the title: how to read the plot. */
  readonly note?: Content;
  /** What the plot shows, for readers who cannot see it. */
  readonly description: string;
  readonly spec: PlotSpec;
  /** The plot's numbers. */
  readonly table: Markup;
  /** Takes the page's whole width. */
  readonly wide?: boolean;
}

async function figureMarkup({ id, title, note, description, spec, table, wide }: Figure): Promise<Markup> {
  const svg = await drawing(spec, { id, title, description });
  return html`<figure class="${wide ? 'plot wide' : 'plot'}">
<figcaption><h3>${title}</h3>${note && html`<p>${note}</p>`}</figcaption>
${svg === undefined ? html`<p>Plots need Vega: <code>${PLOTTING}</code> beside rm-engine.</p>` : new Markup(svg)}
<details><summary>In numbers<span class="unseen">: ${title}</span></summary>
${table}</details>
</figure>
`;
}

/** Plots side by side where there is room. */
export async function figures(list: readonly (Figure | undefined)[]): Promise<Markup | undefined> {
  const drawn = await Promise.all(list.filter(figure => figure !== undefined).map(figureMarkup));
  return drawn.length > 0 ? html`<div class="figures">${drawn}</div>` : undefined;
}
