import { createHash } from 'node:crypto';
import type { Report } from '../schema/schema.js';
import { comparePage } from './comparePage.js';
import { evalPage } from './evalPage.js';
import { healPage } from './healPage.js';
import { html, Markup } from './html.js';
import { type PageContent, prunePage } from './prunePage.js';
import { factList, warningList } from './sections.js';
import { pageStyle } from './style.js';

const contentOf = (report: Report): Promise<PageContent> => {
  switch (report.kind) {
    case 'prune':
      return prunePage(report);
    case 'heal':
      return healPage(report);
    case 'compare':
      return comparePage(report);
    case 'eval':
      return evalPage(report);
  }
};

/** Allows only this style sheet: whatever text a report contains, the page fetches nothing and runs nothing. */
const policy = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(pageStyle).digest('base64')}'`,
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');

/**
 * The report as one self-contained HTML file: no script, no font, no network. For light and dark screens, phones and
 * paper. Every plot (an SVG made by Vega-Lite) has a description, and its numbers in a table.
 */
export async function reportPage(report: Report): Promise<string> {
  const { title, facts, sections: all } = await contentOf(report);
  const sections = all.filter(section => section !== undefined);
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="${report.version}">
<title>${title}</title>
<style>${new Markup(pageStyle)}</style>
</head>
<body>
<header>
<p class="kind">rm-engine ${report.kind}</p>
<h1>${title}</h1>
<p class="lead">${report.sentence}</p>
${warningList(report)}
${facts.length > 0 && factList(facts)}
</header>
<nav aria-label="Contents"><ul>${sections.map(({ id, short }) => html`<li><a href="#${id}">${short}</a></li>`)}</ul></nav>
<main>
${sections.map(
  ({ id, question, content }) => html`<section id="${id}" aria-labelledby="${id}-heading">
<h2 id="${id}-heading">${question}</h2>
${content}
</section>
`,
)}
</main>
<footer><p>Layers are counted from 0. report.json beside this page has its numbers (${report.schema}).</p></footer>
</body>
</html>
`;
  return page.toString();
}
