import { plural } from '../../../engine/index.js';
import type { HealingRecord, HeldOutPoint } from '../schema/schema.js';
import type { Figure } from './figure.js';
import { figures } from './figure.js';
import { html } from './html.js';
import { plotSize } from './lossPlots.js';
import { counted, digits, fixed } from './numbers.js';
import { definitions, type Section } from './sections.js';
import { type Series, seriesEncoding, seriesStyles } from './series.js';
import { dataTable } from './table.js';

const training: Series = { name: 'Training text', style: seriesStyles.plain };
const heldOutText: Series = { name: 'Held-out text', style: seriesStyles.result };

const steps = { field: 'step', type: 'quantitative', axis: { title: 'step', grid: false, tickCount: 5 } };

/** At most about `most` values: every n-th, and the last. */
function thinned<T>(values: readonly T[], most: number): T[] {
  const every = Math.ceil(values.length / most);
  return values.filter((_, i) => i % every === 0 || i === values.length - 1);
}

/** The score that training minimises. */
const measured = ({ settings: { objective } }: HealingRecord, point: HeldOutPoint): number =>
  objective === 'kl' ? (point.kl ?? point.nll) : point.nll;

function lossFigure(record: HealingRecord): Figure {
  const name = record.settings.objective === 'kl' ? 'KL (nats)' : 'loss (nats)';
  const trained = record.steps.flatMap(({ step, loss }) =>
    loss === null ? [] : [{ step, value: loss, series: training.name }],
  );
  const measures = record.heldOut.map(point => ({
    ...{ step: point.step, value: measured(record, point), series: heldOutText.name },
  }));
  const shown = [...(trained.length > 0 ? [training] : []), ...(measures.length > 0 ? [heldOutText] : [])];
  const { strokeDash, shape, color } = seriesEncoding(shown);
  const [first, last] = [measures[0], measures.at(-1)];
  const summary =
    first && last
      ? `On held-out text from ${digits(first.value)} to ${digits(last.value)}.`
      : `On the training text from ${digits(trained[0]?.value ?? 0)} to ${digits(trained.at(-1)?.value ?? 0)}.`;
  const y = {
    field: 'value',
    type: 'quantitative',
    scale: { zero: false },
    axis: { title: name, tickCount: 5 },
  };
  return {
    id: 'healing-loss',
    title: 'Loss by step',
    note: 'On the texts of each step before its update, and on text outside training.',
    description: `Lines of ${shown.map(series => series.name).join(' and ')} over ${plural(record.steps.length, 'step')}. ${summary}`,
    spec: {
      ...plotSize,
      layer: [
        {
          data: { values: thinned(trained, 400) },
          mark: { type: 'line', strokeWidth: 1, opacity: 0.8 },
          encoding: { x: steps, y, color, strokeDash },
        },
        {
          data: { values: measures },
          mark: { type: 'line', strokeWidth: 2 },
          encoding: { x: steps, y, color, strokeDash },
        },
        {
          data: { values: measures },
          mark: { type: 'point', filled: true, opacity: 1, size: 45 },
          encoding: { x: steps, y, color, shape },
        },
      ],
    },
    table: dataTable({
      id: 'healing-loss-numbers',
      caption: 'Scores on the held-out text by steps before the measurement, in nats',
      columns: ['Steps', 'KL', 'Loss'].map(title => ({ title, numeric: true })),
      groups: [
        {
          rows: record.heldOut.map(({ step, kl, nll }) => [
            `${step}`,
            kl === undefined ? '' : fixed(kl, 4),
            fixed(nll, 4),
          ]),
        },
      ],
    }),
  };
}

function rateFigure({ steps: all }: HealingRecord): Figure {
  const norm: Series = { name: 'Gradient norm', style: seriesStyles.other };
  const { color, strokeDash } = seriesEncoding([norm]);
  const values = all.flatMap(({ step, gradientNorm }) =>
    gradientNorm === null ? [] : [{ step, value: gradientNorm, series: norm.name }],
  );
  const most = values.reduce((largest, { value }) => Math.max(largest, value), 0);
  return {
    id: 'healing-gradient',
    title: 'Gradient by step',
    note: 'Euclidean norm of the gradient of all trained parameters, before clipping.',
    description: `A line over ${plural(all.length, 'step')}, at most ${digits(most)}.`,
    spec: {
      ...plotSize,
      data: { values: thinned(values, 400) },
      mark: { type: 'line', strokeWidth: 1.5 },
      encoding: {
        ...{ x: steps, color, strokeDash },
        y: { field: 'value', type: 'quantitative', axis: { title: 'norm', tickCount: 5 } },
      },
    },
    table: dataTable({
      id: 'healing-gradient-numbers',
      caption: 'Some of the steps',
      columns: ['Step', 'Loss', 'Learning rate', 'Gradient norm'].map(title => ({ title, numeric: true })),
      groups: [
        {
          rows: thinned(all, 20).map(({ step, loss, learningRate, gradientNorm }) => [
            `${step}`,
            loss === null ? 'not finite' : fixed(loss, 4),
            digits(learningRate),
            gradientNorm === null ? 'skipped' : digits(gradientNorm),
          ]),
        },
      ],
    }),
  };
}

/** The section about training by gradient. */
export async function healingSection(record: HealingRecord): Promise<Section> {
  const { settings, layers, parameters, tokens, heldOutTokens, skipped, steps: all, resumedAt } = record;
  const where = layers.length > 0 ? `${settings.train} of layer ${layers.join(', ')}` : 'all weights';
  return {
    id: 'healing',
    question: 'Did healing help?',
    short: 'Healing',
    content: html`${definitions([
      ['Trained', `${where}: ${counted(parameters)} parameters`],
      ['Objective', settings.objective === 'kl' ? 'KL to the model before pruning' : 'the next token'],
      [
        'Steps',
        `${all.length} of at most ${settings.batchTokens} tokens${skipped > 0 ? `, ${skipped} skipped` : ''}${resumedAt === undefined ? '' : `; resumed after step ${resumedAt}`}`,
      ],
      [
        'Text',
        `${plural(tokens, 'token')} to train on${heldOutTokens > 0 ? `, ${plural(heldOutTokens, 'token')} to measure on` : ''}`,
      ],
    ])}
${await figures([lossFigure(record), rateFigure(record)])}`,
  };
}
