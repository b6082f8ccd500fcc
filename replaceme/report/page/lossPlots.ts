import type { Measures, PositionLoss } from '../schema/schema.js';
import type { Figure } from './figure.js';
import { fixed } from './numbers.js';
import { palette } from './palette.js';
import { type Series, seriesEncoding, seriesStyles } from './series.js';
import { dataTable } from './table.js';

/** A model in plots of loss by position. */
interface LossSeries extends Series {
  readonly losses: Measures['lossByPosition'];
}

/** The size of a plot on the page, including text. */
export const plotSize = {
  width: 400,
  height: 220,
  autosize: { type: 'fit', contains: 'padding' },
};

const bucketName = ({ from, to }: PositionLoss): string => (from === to ? `${from}` : `${from}–${to}`);

interface Place {
  readonly position: string;
  readonly series: string;
  readonly value: number;
}

const positionPlot = (values: readonly Place[], series: readonly Series[], title: string, zero: boolean) => ({
  ...plotSize,
  data: { values },
  encoding: {
    x: {
      ...{ field: 'position', type: 'ordinal', sort: null },
      axis: { title: 'position in the sequence', labelAngle: 0, labelOverlap: true, grid: false },
    },
    y: { field: 'value', type: 'quantitative', scale: { zero }, axis: { title, tickCount: 5 } },
    ...seriesEncoding(series),
  },
  layer: [
    ...(zero
      ? [{ mark: { type: 'rule', color: palette.axis.light }, data: { values: [{}] }, encoding: zeroLine }]
      : []),
    { mark: { type: 'line', strokeWidth: 2 } },
    { mark: { type: 'point', filled: true, opacity: 1, size: 45 } },
  ],
});

const nothing = { value: null };
const zeroLine = { x: nothing, y: { datum: 0 }, color: nothing, shape: nothing, strokeDash: nothing };

/**
 * Plots the models' loss by position, the dense model first, and the loss that the other models add to it.
 *
 * @returns no figures where nothing was measured.
 */
export function lossFigures(models: readonly LossSeries[]): Figure[] {
  const [dense, ...others] = models;
  const buckets = dense?.losses ?? [];
  if (!dense || buckets.length === 0) return [];
  const places = (
    { name, losses }: LossSeries,
    value: (loss: PositionLoss, bucket: number) => number,
  ): Place[] =>
    losses.map((loss, b) => ({ position: bucketName(loss), series: name, value: value(loss, b) }));
  const table = (
    id: string,
    shown: readonly LossSeries[],
    value: (loss: PositionLoss, bucket: number) => number,
  ) =>
    dataTable({
      id: `${id}-numbers`,
      caption: 'Mean loss in nats by position in the sequence',
      columns: [
        { title: 'Positions' },
        { title: 'Predictions', numeric: true },
        ...shown.map(({ name }) => ({ title: name, numeric: true })),
      ],
      groups: [
        {
          rows: buckets.map((bucket, b) => [
            ...[bucketName(bucket), `${bucket.predictions}`],
            ...shown.map(({ losses }) => (losses[b] ? fixed(value(losses[b], b), 4) : '')),
          ]),
        },
      ],
    });
  const added = ({ nll }: PositionLoss, b: number) => nll - buckets[b]!.nll;
  const loss = ({ nll }: PositionLoss) => nll;
  const worst = ({ name, losses }: LossSeries): string => {
    const [most] = losses.map((l, b) => ({ l, added: added(l, b) })).sort((x, y) => y.added - x.added);
    return `${name}: most at positions ${bucketName(most!.l)}, ${fixed(most!.added, 3)} nats more than dense`;
  };
  return [
    {
      id: 'loss-by-position',
      title: 'Loss by position',
      note: 'Mean −log p of the next token, in nats, by how much text came before it.',
      description: `Lines of ${models.map(({ name }) => name).join(', ')} over positions, from ${bucketName(buckets[0]!)} to ${bucketName(buckets.at(-1)!)}.`,
      spec: positionPlot(
        models.flatMap(model => places(model, loss)),
        models,
        'loss (nats)',
        false,
      ),
      table: table('loss-by-position', models, loss),
    },
    ...(others.length === 0
      ? []
      : [
          {
            id: 'added-loss',
            title: 'Loss added by pruning',
            note: 'The same minus the dense model’s loss: zero would be as good as before.',
            description: `${others.map(worst).join('; ')}.`,
            spec: positionPlot(
              others.flatMap(model => places(model, added)),
              others,
              'added loss (nats)',
              true,
            ),
            table: table('added-loss', others, added),
          },
        ]),
  ];
}

/** Names and styles of the models in a prune's report. */
export const roles = {
  dense: { name: 'Dense', style: seriesStyles.dense },
  plain: { name: 'Plain removal', style: seriesStyles.plain },
  result: { name: 'Result', style: seriesStyles.result },
} as const;
