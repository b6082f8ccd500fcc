import { basename } from 'node:path';
import { formatBytes, formatSeconds, plural } from '../../../engine/index.js';
import type { HealReport, PruneReport, Report, ReportHead, Sample } from '../schema/schema.js';
import { figures } from './figure.js';
import { type Content, html, type Markup } from './html.js';
import { digits, percent } from './numbers.js';
import { phaseFigure } from './phasePlot.js';

/** A part of the page that answers a question. */
export interface Section {
  readonly id: string;
  readonly question: string;
  /** Its entry in the list of contents. */
  readonly short: string;
  readonly content: Content;
}

export interface Fact {
  readonly name: string;
  readonly value: string;
  readonly note?: string | undefined;
}

/** The most important numbers, at the top of the page. */
export const factList = (facts: readonly Fact[]): Markup =>
  html`<dl class="facts">${facts.map(
    ({
      name,
      value,
      note,
    }) => html`<div><dt>${name}</dt><dd>${value}${note && html`<span>${note}</span>`}</dd></div>
`,
  )}</dl>
`;

/** A list of names and values. */
export const definitions = (
  entries: readonly (readonly [name: string, value: Content] | undefined)[],
): Markup =>
  html`<dl class="definitions">${entries
    .filter(entry => entry !== undefined)
    .map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>\n`)}</dl>
`;

/** How far the written model is from the model in memory. */
export const verified = ({
  tokens,
  maxLogitDifference,
}: (PruneReport | HealReport)['verification']): Markup =>
  definitions([
    [
      'Written files',
      `loaded again, logits on ${plural(tokens, 'token')} differ by at most ${digits(maxLogitDifference)}`,
    ],
  ]);

export const warningList = ({ warnings }: Pick<ReportHead, 'warnings'>): Markup | undefined =>
  warnings.length === 0
    ? undefined
    : html`<aside class="warnings" aria-labelledby="warnings"><h2 id="warnings">${warnings.length === 1 ? 'A warning' : 'Warnings'}</h2>
<ul>${warnings.map(warning => html`<li>${warning}</li>\n`)}</ul></aside>
`;

/** Number of leading characters that both texts share. */
function sharedBeginning(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  // Don't cut a surrogate pair.
  return length > 0 && /[\uD800-\uDBFF]/.test(a[length - 1]!) ? length - 1 : length;
}

const roleNames: Readonly<Record<string, string>> = {
  dense: 'Dense',
  plain: 'Plain removal',
  result: 'Result',
};

/** Samples of the models, the dense one first; marks where others depart from it. */
export function samplesSection(samples: readonly Sample[] | undefined): Section | undefined {
  if (!samples || samples.length === 0) return undefined;
  const shown = samples.map(({ prompt, chat, continuations }) => {
    const [first, ...others] = continuations;
    const cards = continuations.map(({ model, text, tokens, repetition }) => {
      const shared = others.length > 0 && first!.model !== model ? sharedBeginning(first!.text, text) : 0;
      const same =
        shared === text.length && text === first!.text && others.length > 0 && first!.model !== model;
      return html`<div class="sample"><h4>${roleNames[model] ?? model}</h4>
<blockquote>${shared > 0 && html`<span class="shared">${text.slice(0, shared)}</span>`}${text.slice(shared)}${text === '' && html`<em>nothing</em>`}</blockquote>
<p class="small">${tokens} tokens, ${percent(repetition, 0)} of 4-grams repeated${same ? '; identical to the first' : ''}</p></div>
`;
    });
    return html`<section class="prompt"><h3>${chat ? 'Asked' : 'Prompt'}: <q>${prompt}</q></h3>
<div class="samples">${cards}</div></section>
`;
  });
  const several = samples.some(({ continuations }) => continuations.length > 1);
  return {
    id: 'samples',
    question: 'What does it write?',
    short: 'Samples',
    content: html`<p>Greedy: each token is the most likely one.${several && html` Text that a model shares with the first one is <span class="shared">underlined with dots</span>.`}</p>${shown}`,
  };
}

/** Time and memory. */
export async function costSection(report: Report): Promise<Section> {
  const plan = report.kind === 'prune' ? report.plan : undefined;
  const planned = plan?.phases?.reduce((sum, { seconds }) => sum + seconds, 0);
  return {
    id: 'cost',
    question: 'What did it cost?',
    short: 'Cost',
    content: html`${definitions([
      [
        'Time',
        planned === undefined
          ? formatSeconds(report.seconds)
          : `${formatSeconds(report.seconds)}; planned ${formatSeconds(planned)}`,
      ],
      [
        'Device memory',
        plan
          ? `peak ${formatBytes(report.peakMemoryBytes)}; planned ${formatBytes(plan.memory.total)}`
          : `peak ${formatBytes(report.peakMemoryBytes)}`,
      ],
      [
        'Adapter',
        `${report.adapter.description}${report.adapter.kind === 'software' ? ' (software, on the CPU)' : ''}`,
      ],
    ])}${await figures([phaseFigure(report)])}`,
  };
}

/** The text of a setting. */
function settingText(value: unknown): string {
  if (value !== null && typeof value === 'object') return JSON.stringify(value);
  return `${value}`;
}

/** Everything needed to repeat the run. */
export function repeatSection(report: Report, texts: readonly { path: string; sha256: string }[]): Section {
  const recipe = report.kind === 'eval' ? {} : report.recipe;
  const files = texts.filter(({ sha256 }, t) => texts.findIndex(text => text.sha256 === sha256) === t);
  const settings = Object.entries(recipe).map(([name, value]) => [name, settingText(value)] as const);
  const code = (text: string) => html`<code>${text}</code>`;
  return {
    id: 'repeat',
    question: 'How do I repeat it?',
    short: 'Repeat',
    content: html`<pre><code>${report.repeat.text}</code></pre>
${definitions([
  ['Made with', `${report.version}, Node ${report.node.replace(/^v/, '')}`],
  [
    'Finished',
    html`<time datetime="${report.date}">${report.date.replace('T', ' ').replace(/\.\d+Z$/, ' UTC')}</time>`,
  ],
  ['Model', html`${basename(report.model.path)} ${code(report.model.fingerprint)}`],
  ...files.map(({ path, sha256 }) => ['Text', html`${basename(path)} ${code(sha256)}`] as const),
])}
${settings.length > 0 && html`<h3>Settings</h3>\n${definitions(settings)}`}`,
  };
}
