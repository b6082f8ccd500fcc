import { basename } from 'node:path';
import type { EvalReport, TaskMetric } from '../schema/schema.js';
import { figures } from './figure.js';
import { html, type Markup } from './html.js';
import { digits, fixed, percent } from './numbers.js';
import type { PageContent } from './prunePage.js';
import { costSection, type Fact, repeatSection, samplesSection } from './sections.js';
import { dataTable } from './table.js';
import { taskFigure } from './taskPlot.js';

const isShare = ({ metric }: TaskMetric): boolean => /^(acc|exact_match)/.test(metric);
const metricText = (metric: TaskMetric, value: number): string =>
  isShare(metric) ? percent(value) : digits(value, 4);

function fileTable({ files, against }: EvalReport): Markup | undefined {
  if (files.length === 0) return undefined;
  const numbers = (titles: readonly string[]) => titles.map(title => ({ title, numeric: true }));
  return dataTable({
    id: 'files',
    caption: against ? `Texts, beside ${basename(against.path)}` : 'Texts',
    columns: [
      { title: 'Text' },
      ...numbers(['Tokens', 'Loss (nats)', 'Perplexity']),
      ...(against
        ? numbers([`Perplexity of ${basename(against.path)}`, 'KL (nats)', 'Top-1 agreement'])
        : []),
    ],
    groups: [
      {
        rows: files.map(({ file, tokens, nll, perplexity, againstPerplexity, kl, top1 }) => [
          ...[basename(file), `${tokens}`, fixed(nll, 4), digits(perplexity, 5)],
          ...(against ? [digits(againstPerplexity ?? 0, 5), fixed(kl ?? 0, 4), percent(top1 ?? 0)] : []),
        ]),
      },
    ],
  });
}

function taskTable({ tasks, against }: EvalReport): Markup | undefined {
  if (tasks.length === 0) return undefined;
  return dataTable({
    id: 'task-results',
    caption: 'Tasks, scored as in lm-eval, with standard errors',
    columns: [
      { title: 'Task' },
      { title: 'Rows', numeric: true },
      { title: 'Few-shot', numeric: true },
      { title: 'Metric' },
      { title: 'Value', numeric: true },
      { title: 'Standard error', numeric: true },
      ...(against ? [{ title: basename(against.path), numeric: true }] : []),
    ],
    groups: tasks.map(({ task, rows, fewShot, metrics }) => ({
      rows: metrics.map((metric, m) => [
        ...(m === 0 ? [task, `${rows}`, `${fewShot}`] : [html`<span class="unseen">${task}</span>`, '', '']),
        metric.metric,
        metricText(metric, metric.value),
        metric.standardError === undefined ? '' : `± ${metricText(metric, metric.standardError)}`,
        ...(against ? [metric.against === undefined ? '' : metricText(metric, metric.against)] : []),
      ]),
    })),
  });
}

/** The page of `eval`, question by question. */
export async function evalPage(report: EvalReport): Promise<PageContent> {
  const { files, tasks, model, against } = report;
  const facts: Fact[] = [
    ...files.map(({ file, perplexity, kl }) => ({
      name: `Perplexity on ${basename(file)}`,
      value: digits(perplexity, 4),
      note: kl === undefined ? undefined : `KL ${digits(kl)} nats`,
    })),
    ...tasks.flatMap(({ task, metrics }) => {
      const metric = metrics.find(isShare) ?? metrics[0];
      if (!metric) return [];
      const error =
        metric.standardError === undefined ? '' : ` ± ${metricText(metric, metric.standardError)}`;
      return [{ name: task, value: metricText(metric, metric.value), note: `${metric.metric}${error}` }];
    }),
  ];
  return {
    title: `${basename(model.path)} evaluated${against ? ` against ${basename(against.path)}` : ''}`,
    facts: facts.slice(0, 6),
    sections: [
      {
        id: 'quality',
        question: 'How good is it?',
        short: 'Quality',
        content: html`${fileTable(report)}${await figures([taskFigure(tasks)])}${taskTable(report)}`,
      },
      samplesSection(report.samples),
      await costSection(report),
      repeatSection(report, []),
    ].filter(section => section?.id !== 'quality' || files.length + tasks.length > 0),
  };
}
