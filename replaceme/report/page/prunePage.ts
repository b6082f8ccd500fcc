import { basename } from 'node:path';
import { formatBytes, plural } from '../../../engine/index.js';
import type { ModelMeasures, PruneEvaluation } from '../../evaluation/pruneEvaluation.js';
import { notMeasured } from '../../run/reportExtent.js';
import { describeWindows } from '../../run/window.js';
import type { PruneReport } from '../schema/schema.js';
import { fitInWords } from '../text/fitWords.js';
import { damageFigures } from './damagePlots.js';
import { figures } from './figure.js';
import { healingSection } from './healingPlots.js';
import { html, type Markup } from './html.js';
import { layerStrip } from './layerStrip.js';
import { lossFigures, roles } from './lossPlots.js';
import { change, counted, digits, fixed, grouped, percent } from './numbers.js';
import { ridgeFigures } from './ridgePlots.js';
import {
  costSection,
  definitions,
  type Fact,
  repeatSection,
  type Section,
  samplesSection,
  verified,
} from './sections.js';
import { seriesStyles } from './series.js';
import { dataTable } from './table.js';
import { distanceFigure, windowFigures } from './windowPlots.js';

/** The content of one kind of report. */
export interface PageContent {
  readonly title: string;
  /** The most important numbers, at the top. */
  readonly facts: readonly Fact[];
  readonly sections: readonly (Section | undefined)[];
}

const model = ({ models }: PruneEvaluation, role: ModelMeasures['role']): ModelMeasures | undefined =>
  models.find(measured => measured.role === role);

/** Means over all texts, weighted by their tokens: KL, top-1, and perplexity as the exponential of the mean loss. */
function overall({ texts }: PruneEvaluation, measures: ModelMeasures) {
  const total = texts.reduce((sum, { tokens }) => sum + tokens, 0);
  const mean = (value: (file: ModelMeasures['eval'][number]) => number) =>
    measures.eval.reduce((sum, file, f) => sum + value(file) * texts[f]!.tokens, 0) / total;
  return {
    ppl: Math.exp(mean(({ ppl }) => Math.log(ppl))),
    kl: mean(({ kl }) => kl),
    top1: mean(({ top1 }) => top1),
  };
}

function factsOf(report: PruneReport): Fact[] {
  const { evaluation } = report;
  const layers = { name: 'Layers', value: `${report.model.layers} → ${report.output.layers}` };
  const dense = evaluation && model(evaluation, 'dense');
  const result = evaluation && model(evaluation, 'result');
  if (!dense || !result) return [layers];
  const plain = model(evaluation, 'plain');
  const [before, after] = [overall(evaluation, dense), overall(evaluation, result)];
  const removed = plain && overall(evaluation, plain);
  return [
    {
      name: 'Perplexity',
      value: `${digits(before.ppl, 4)} → ${digits(after.ppl, 4)}`,
      note: removed && `plain removal ${digits(removed.ppl, 4)}`,
    },
    {
      name: 'KL to the dense model',
      value: `${digits(after.kl)} nats`,
      note: removed && `plain removal ${digits(removed.kl)}`,
    },
    {
      name: 'Top-1 agreement',
      value: percent(after.top1),
      note: removed && `plain removal ${percent(removed.top1)}`,
    },
    layers,
    {
      name: 'Parameters',
      value: change(result.parameters / dense.parameters),
      note: `${counted(result.parameters)} of ${counted(dense.parameters)}`,
    },
    ...(result.tokensPerSecond !== undefined && dense.tokensPerSecond !== undefined
      ? [
          {
            name: 'Speed',
            value: `× ${fixed(result.tokensPerSecond / dense.tokensPerSecond, 2)}`,
            note: `${digits(result.tokensPerSecond)} tokens/s`,
          },
        ]
      : []),
  ];
}

const origins = {
  given: 'given for the evaluation',
  'held-out calibration': 'held out of the calibration text',
  shipped: 'ships with the package',
} as const;

/** The verdict, with the names of settings as code. */
const judged = ({ verdict }: PruneReport): Markup | undefined =>
  verdict &&
  html`<p>${verdict.sentence.split('`').map((part, p) => (p % 2 ? html`<code>${part}</code>` : part))}</p>`;

/** The cost of plain removal, and how much of it the fit recovers, in words. */
function verdict(evaluation: PruneEvaluation): Markup | undefined {
  const [plain, result] = [model(evaluation, 'plain'), model(evaluation, 'result')];
  if (!plain || !result) return undefined;
  const [removed, after] = [overall(evaluation, plain), overall(evaluation, result)];
  const share = 1 - after.kl / removed.kl;
  const recovered =
    share > 0
      ? `of which the fit recovers ${percent(share, share > 0.99 ? 1 : 0)}: ${digits(after.kl)} nats remain`
      : `and the result is no nearer: ${digits(after.kl)} nats`;
  const others = model(evaluation, 'plain')!.windows;
  const what = others ? 'as many layers elsewhere, where that does least,' : 'the layers';
  return html`<p>Removing ${what} and changing nothing else costs ${digits(removed.kl)} nats of KL divergence, ${recovered}.</p>`;
}

/** What a light report does not measure. */
function leftOut({ extent }: PruneReport): Markup | undefined {
  const said = notMeasured(extent);
  return said === '' ? undefined : html`<p>${said}</p>`;
}

function measuresTable(evaluation: PruneEvaluation): Markup {
  const { models, texts } = evaluation;
  const dense = model(evaluation, 'dense')!;
  const beside = (role: string, value: number, base: number) =>
    role !== 'dense' && html` <span class="change">${value !== base && change(value / base)}</span>`;
  const row = (
    name: string,
    value: (measured: ModelMeasures) => number,
    text: (value: number) => string,
    compared = true,
  ) => [
    name,
    ...models.map(measured => {
      const own = value(measured);
      return html`${text(own)}${beside(measured.role, own, compared ? value(dense) : own)}`;
    }),
  ];
  return dataTable({
    id: 'side-by-side',
    caption: `${models.map(({ role }) => roles[role].name).join(', ')} side by side; small: change against dense`,
    columns: [
      { title: 'Measure' },
      ...models.map(({ role }) => ({ title: roles[role].name, numeric: true })),
    ],
    groups: [
      {
        rows: [
          row('Layers', ({ layers }) => layers, String, false),
          row('Parameters', ({ parameters }) => parameters, counted),
          row('Weights', ({ bytes }) => bytes, formatBytes),
          ...(dense.tokensPerSecond === undefined
            ? []
            : [
                row(
                  'Tokens/s',
                  ({ tokensPerSecond }) => tokensPerSecond!,
                  value => digits(value),
                ),
              ]),
        ],
      },
      ...texts.map(({ file, tokens, origin }, t) => ({
        title: html`${basename(file)} <span class="small">${plural(tokens, 'token')}, ${origins[origin]}</span>`,
        rows: [
          row(
            'Perplexity',
            measured => measured.eval[t]!.ppl,
            value => digits(value, 5),
          ),
          row(
            'KL (nats)',
            measured => measured.eval[t]!.kl,
            value => fixed(value, 4),
            false,
          ),
          row(
            'Top-1 agreement',
            measured => measured.eval[t]!.top1,
            value => percent(value),
            false,
          ),
        ],
      })),
    ],
  });
}

const stages = {
  plain: { name: 'Plain removal', style: seriesStyles.plain },
  fit: { name: 'Fitted', style: seriesStyles.fit },
  healed: { name: 'Healed', style: seriesStyles.result },
} as const;

async function damageSection(report: PruneReport): Promise<Section | undefined> {
  const { evaluation, selection } = report;
  if (!evaluation) return undefined;
  const lines = (evaluation.damageByLayer?.series ?? []).map(({ stage, layers }) => ({
    ...stages[stage],
    points: layers,
  }));
  const losses = evaluation.models.map(({ role, lossByPosition }) => ({
    ...roles[role],
    losses: lossByPosition,
  }));
  return {
    id: 'damage',
    question: 'Where does the damage arise?',
    short: 'Damage',
    content: await figures([
      ...(lines.length === 0 ? [] : damageFigures(lines, selection.windows, report.model.layers)),
      ...lossFigures(losses),
    ]),
  };
}

/** What the numbers of layers cost that were tried for a budget. */
function searchTable({ selection: { search }, model: from, output }: PruneReport): Markup | undefined {
  if (!search) return undefined;
  const chosen = search.trials.findIndex(({ layers }) => layers === from.layers - output.layers);
  return dataTable({
    id: 'search',
    caption: `Numbers of layers that were tried on ${grouped(search.tokens)} held-out tokens; the most within the budget is marked`,
    columns: ['Layers removed', 'KL', 'Top-1'].map(title => ({ title, numeric: true })),
    groups: [
      { rows: search.trials.map(({ layers, kl, top1 }) => [`${layers}`, fixed(kl, 4), percent(top1)]) },
    ],
    marked: new Set([chosen]),
  });
}

async function choiceSection(report: PruneReport): Promise<Section> {
  const { selection, windowMap, model: from } = report;
  const { windows, by, distances, candidates } = selection;
  const count = windows.reduce((sum, window) => sum + window.count, 0);
  const tried = candidates?.flatMap(candidate => candidate.windows) ?? [];
  const healed = candidates?.some(candidate => candidate.healed);
  const table =
    candidates &&
    candidates.length > 0 &&
    dataTable({
      id: 'candidates',
      caption:
        'Candidates that were repaired and judged on held-out text, finalists by more tokens; best first',
      columns: [
        { title: 'Windows' },
        { title: 'KL', numeric: true },
        { title: 'Loss', numeric: true },
        { title: 'Tokens', numeric: true },
        { title: 'Cosine', numeric: true },
        { title: 'Residual', numeric: true },
        ...(healed ? [{ title: 'Healed' }] : []),
      ],
      groups: [
        {
          rows: candidates.map(candidate => [
            describeWindows(candidate.windows, from.layers).replace(/ \(\d+ of.*$/, ''),
            ...[candidate.kl, candidate.nll].map(value => fixed(value, 4)),
            `${candidate.tokens}`,
            ...[candidate.cosine, candidate.residual].map(value => digits(value)),
            ...(healed ? [candidate.healed ? 'yes' : 'no'] : []),
          ]),
        },
      ],
      marked: new Set([0]),
    });
  return {
    id: 'choice',
    question: windows.length === 1 ? 'Why this window?' : 'Why these windows?',
    short: windows.length === 1 ? 'Window' : 'Windows',
    content: html`<p>Chosen by ${by === 'request' ? 'request' : by}: ${describeWindows(windows, from.layers)}.${windowMap && html` A window (i, n) keeps layer i, which is patched, and removes the n layers after it.`}</p>
${await figures(windowFigures(windowMap, { chosen: windows, candidates: tried }))}
${distances && !windowMap && windows.length === 1 && (await figures([distanceFigure(distances, count, windows)]))}
${searchTable(report)}${table}`,
  };
}

/** Tables of the method's numbers; those named "LAYER: NAME" get a row per layer. */
function fitTables(fit: PruneReport['fit']): (Markup | false)[] {
  const text = (value: number | string | undefined) => (typeof value === 'number' ? digits(value, 4) : value);
  const ofLayers = Object.entries(fit).flatMap(([name, value]) => {
    const [, layer, own] = /^(\d+): (.*)$/.exec(name) ?? [];
    return layer !== undefined && own !== undefined ? [{ name, layer, own, value }] : [];
  });
  const others = Object.entries(fit).filter(([name]) => ofLayers.every(entry => entry.name !== name));
  const layers = [...new Set(ofLayers.map(({ layer }) => layer))];
  const names = [...new Set(ofLayers.map(({ own }) => own))];
  const value = (layer: string, own: string) =>
    ofLayers.find(entry => entry.layer === layer && entry.own === own)?.value;
  return [
    others.length > 0 &&
      dataTable({
        id: 'fit-numbers',
        caption: 'The method’s numbers',
        columns: [{ title: 'Name' }, { title: 'Value', numeric: true }],
        groups: [{ rows: others.map(([name, number]) => [fitInWords(name), text(number)]) }],
      }),
    layers.length > 0 &&
      dataTable({
        id: 'fit-layers',
        caption: 'The method’s numbers by layer',
        columns: ['Layer', ...names.map(fitInWords)].map(title => ({ title, numeric: true })),
        groups: [{ rows: layers.map(layer => [layer, ...names.map(own => text(value(layer, own)))]) }],
      }),
  ];
}

async function fitSection(report: PruneReport): Promise<Section> {
  const { fit, verification, ridgePaths } = report;
  return {
    id: 'fit',
    question: 'Was the fit sound?',
    short: 'Fit',
    content: html`${verified(verification)}
${await figures(ridgeFigures(ridgePaths))}
${fitTables(fit)}`,
  };
}

/** The page of `prune`, question by question. */
export async function prunePage(report: PruneReport): Promise<PageContent> {
  const { evaluation, selection, ridgePaths, model: from } = report;
  const changed = (purpose: 'fit' | 'healing') =>
    ridgePaths
      .filter(path => path.purpose === purpose && path.chosen !== undefined)
      .map(({ layer }) => layer);
  const plainly = report.method === 'plain' || evaluation?.models.every(({ role }) => role !== 'plain');
  const strip = layerStrip({
    layers: from.layers,
    windows: selection.windows,
    patched: plainly ? [] : selection.windows.map(({ layer }) => layer),
    healed: changed('healing'),
  });
  const texts = [
    ...report.calibration.files,
    ...(evaluation?.texts.map(({ file, sha256 }) => ({ path: file, sha256 })) ?? []),
  ];
  const removed = from.layers - report.output.layers;
  const { tokens, sequences, files } = report.calibration;
  const named = (file: (typeof files)[number]) => `${basename(file.path)} (${grouped(file.tokens)})`;
  return {
    title: `${basename(from.path)} with ${removed} of ${plural(from.layers, 'layer')} removed`,
    facts: factsOf(report),
    sections: [
      {
        id: 'done',
        question: 'What was done?',
        short: 'What was done',
        content: html`${definitions([
          ['Layers', report.summary],
          ['Method', html`${report.method} <span class="small">${report.source}</span>`],
          [
            'Calibration',
            `${plural(tokens, 'token')} in ${plural(sequences, 'sequence')}: ${files.map(named).join(', ')}`,
          ],
        ])}${await figures([strip])}`,
      },
      evaluation && {
        id: 'quality',
        question: 'How good is it?',
        short: 'Quality',
        content: html`${judged(report)}${verdict(evaluation)}${measuresTable(evaluation)}${leftOut(report)}`,
      },
      await damageSection(report),
      await choiceSection(report),
      await fitSection(report),
      report.healing && (await healingSection(report.healing)),
      samplesSection(evaluation?.samples),
      await costSection(report),
      repeatSection(report, texts),
    ],
  };
}
