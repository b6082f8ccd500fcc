import { markdownTable } from '../../replaceme/index.js';
import { digits, left, right } from '../measure.js';
import { type Finding, type GpuCheckReport, isWrong, type StepReport, verdictOf } from './report.js';

const names = { wrong: 'WRONG', warning: 'to look at', note: 'note' } as const;
const order = ['wrong', 'warning', 'note'] as const;
/** Findings of one level and step that are listed; the JSON has all. */
const MOST_LISTED = 8;

/** What came out, and what to do, in one or two sentences. */
function verdictText(report: GpuCheckReport): string {
  const wrong = report.steps.filter(isWrong).map(({ step }) => step);
  const unfinished = report.steps.filter(({ status }) => status !== 'done').map(({ step }) => step);
  switch (verdictOf(report)) {
    case 'wrong':
      return `**WRONG: do not trust results of this device.** ${wrong.join(', ')}: see below what was found and what to do.`;
    case 'partly':
      return report.complete
        ? `**Right as far as it was checked.** Not, or not wholly checked: ${unfinished.join(', ')}; give a larger \`--budget\`.`
        : '**Right so far.** The check is not over, or was interrupted.';
    case 'right':
      return '**Right.** Every result that was checked is correct, and repeats to the bit.';
  }
}

const line = (step: string, { text, fix }: Finding): string =>
  `- ${step}: ${text}${/[.:]$/.test(text) ? '' : '.'}${fix ? ` ${fix}` : ''}`;

/** The findings of one level of all steps, by step. */
function findingLines(steps: readonly StepReport[], level: Finding['level']): string[] {
  return steps.flatMap(({ step, findings }) => {
    const found = findings.filter(finding => finding.level === level);
    const more = found.length - MOST_LISTED;
    return [
      ...found.slice(0, MOST_LISTED).map(finding => line(step, finding)),
      ...(more > 0 ? [`- ${step}: ${more} more, see gpu-check.json.`] : []),
    ];
  });
}

/** What a step came to, in a word. */
const outcome = (step: StepReport): string => {
  if (isWrong(step)) return step.status === 'failed' ? 'FAILED' : 'WRONG';
  if (step.status !== 'done') return step.status;
  return step.findings.some(({ level }) => level === 'warning') ? 'right, to look at' : 'right';
};

/** What was predicted, beside what was measured; nothing where nothing was predicted. */
function predictedLines(steps: readonly StepReport[]): string[] {
  const rows = steps.flatMap(({ step, metrics }) =>
    metrics.flatMap(({ name, value, unit, better, predicted }) => {
      if (predicted === undefined || !(value > 0)) return [];
      const reached = better === 'higher' ? value / predicted : predicted / value;
      return [[step, name, unit, digits(predicted), digits(value), reached.toFixed(2)]];
    }),
  );
  const columns = [
    ...[left('step'), left('what'), left('unit'), right('predicted'), right('measured')],
    right('of the prediction'),
  ];
  return rows.length > 0
    ? [
        '## Beside the prediction',
        'By the data sheet of a card that is known, else by the rates that the step peak measured (docs/gpu-check.md). Above 1: better than predicted.',
        markdownTable(columns, rows).trimEnd(),
      ]
    : [];
}

/** gpu-check.md: the verdict, what to do, then the tables. */
export function gpuCheckMarkdown(report: GpuCheckReport): string {
  const { adapter, steps } = report;
  const name = adapter ? [adapter.device, adapter.description].filter(Boolean).join(', ') : 'no adapter';
  const findings = order.flatMap(level => {
    const lines = findingLines(steps, level);
    return lines.length > 0 ? [`## ${names[level]}`, lines.join('\n')] : [];
  });
  const columns = [left('step'), left('outcome'), right('s'), right('of')];
  const rows = steps.map(step => [
    step.step,
    outcome(step),
    step.seconds.toFixed(0),
    step.limitSeconds.toFixed(0),
  ]);
  return `${[
    '# gpu-check',
    verdictText(report),
    `${name}. rm-engine ${report.version}, Node ${report.node}, ${report.platform}, ${report.date}, ${report.seconds.toFixed(0)} of ${report.budgetSeconds} s.`,
    ...findings,
    '## Steps',
    markdownTable(columns, rows).trimEnd(),
    ...predictedLines(steps),
    ...steps.flatMap(({ tables }) =>
      tables.flatMap(table => [`## ${table.title}`, markdownTable(table.columns, table.rows).trimEnd()]),
    ),
  ].join('\n\n')}\n`;
}
