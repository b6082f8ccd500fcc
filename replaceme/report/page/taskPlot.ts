import type { TaskEvaluation } from '../schema/schema.js';
import type { Figure } from './figure.js';
import { percent } from './numbers.js';
import { seriesEncoding, seriesStyles } from './series.js';
import { dataTable } from './table.js';

const series = [
  { name: 'acc', style: seriesStyles.result },
  { name: 'acc_norm', style: seriesStyles.plain },
];

/** Plots the accuracies of all tasks with their standard errors. */
export function taskFigure(tasks: readonly TaskEvaluation[]): Figure | undefined {
  const values = tasks.flatMap(({ task, metrics }) =>
    metrics
      .filter(({ metric }) => series.some(({ name }) => name === metric))
      .map(({ metric, value, standardError = 0 }) => ({
        ...{ task, series: metric, value },
        ...{ low: Math.max(0, value - standardError), high: Math.min(1, value + standardError) },
      })),
  );
  if (values.length === 0) return undefined;
  const used = series.filter(({ name }) => values.some(value => value.series === name));
  const { color, shape } = seriesEncoding(used);
  const y = {
    ...{ field: 'task', type: 'nominal', sort: null, title: null },
    axis: { labelLimit: 160, ticks: false, domain: false, grid: true },
  };
  const axis = { title: 'accuracy, with its standard error', format: '.0%', tickCount: 5 };
  const yOffset = { field: 'series', scale: { domain: used.map(({ name }) => name) } };
  return {
    id: 'tasks',
    title: 'Accuracy by task',
    description: values
      .map(({ task, series: metric, value }) => `${task}: ${metric} ${percent(value)}`)
      .join('; '),
    spec: {
      ...{ width: 400, height: 34 * tasks.length + 90, autosize: { type: 'fit', contains: 'padding' } },
      data: { values },
      encoding: { y, yOffset },
      layer: [
        {
          mark: { type: 'rule', strokeWidth: 2 },
          encoding: {
            x: { field: 'low', type: 'quantitative', scale: { domain: [0, 1] }, axis },
            x2: { field: 'high' },
            color,
          },
        },
        {
          mark: { type: 'point', filled: true, opacity: 1, size: 75 },
          encoding: { x: { field: 'value', type: 'quantitative' }, color, shape },
        },
      ],
    },
    table: dataTable({
      id: 'tasks-numbers',
      caption: 'Accuracies',
      columns: [{ title: 'Task' }, { title: 'Metric' }, { title: 'Value', numeric: true }],
      groups: [{ rows: values.map(({ task, series: metric, value }) => [task, metric, percent(value)]) }],
    }),
  };
}
