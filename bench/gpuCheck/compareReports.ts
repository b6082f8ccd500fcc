import { type BenchTable, digits, left, type Metric, right } from '../measure.js';
import { type GpuCheckReport, isWrong, type StepReport, stepNames, verdictOf } from './report.js';

/** A number of two machines. */
export interface ComparedMetric {
  readonly step: string;
  readonly name: string;
  readonly unit: string;
  readonly better: Metric['better'];
  readonly a?: number;
  readonly b?: number;
  /** How many times B is better than A; above 1 it is. */
  readonly gain?: number;
}

const outcomeOf = (step: StepReport | undefined): string =>
  step === undefined ? 'not run' : isWrong(step) ? 'wrong' : step.status;

/** The numbers of two reports, by step, those of A first. */
export function compareReports(a: GpuCheckReport, b: GpuCheckReport): ComparedMetric[] {
  return stepNames.flatMap(step => {
    const [first, second] = [a, b].map(
      ({ steps }) =>
        new Map(steps.find(one => one.step === step)?.metrics.map(metric => [metric.name, metric])),
    ) as [Map<string, Metric>, Map<string, Metric>];
    return [...new Set([...first.keys(), ...second.keys()])].map(name => {
      const [left, right] = [first.get(name), second.get(name)];
      const { unit, better } = (left ?? right)!;
      const ratio = left && right && left.value > 0 && right.value > 0 ? right.value / left.value : undefined;
      return {
        ...{ step, name, unit, better },
        ...(left && { a: left.value }),
        ...(right && { b: right.value }),
        ...(ratio !== undefined && { gain: better === 'higher' ? ratio : 1 / ratio }),
      };
    });
  });
}

/** Two reports side by side: the machines, the steps, the numbers. */
export function comparisonTables(a: GpuCheckReport, b: GpuCheckReport): BenchTable[] {
  const device = ({ adapter }: GpuCheckReport) =>
    adapter ? [adapter.device, adapter.description].filter(Boolean).join(', ') : 'none';
  const both = (what: string, of: (report: GpuCheckReport) => string) => [what, of(a), of(b)];
  const stepOf = (report: GpuCheckReport, name: string) => report.steps.find(({ step }) => step === name);
  const value = (number: number | undefined) => (number === undefined ? '' : digits(number));
  return [
    {
      columns: [left(''), left('A'), left('B')],
      rows: [
        both('adapter', device),
        both('version', ({ version, node, platform }) => `${version}, Node ${node}, ${platform}`),
        both('date', ({ date }) => date),
        both('verdict', verdictOf),
        ...stepNames.map(name => both(name, report => outcomeOf(stepOf(report, name)))),
      ],
    },
    {
      columns: [left('step'), left('what'), right('A'), right('B'), left('unit'), right('B better by')],
      rows: compareReports(a, b).map(({ step, name, unit, gain, ...sides }) => [
        ...[step, name, value(sides.a), value(sides.b), unit],
        gain === undefined ? '' : gain.toFixed(2),
      ]),
    },
  ];
}
