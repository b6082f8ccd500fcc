import { formatBytes } from '../../../engine/index.js';
import type { ReportHead } from '../schema/schema.js';
import type { Figure } from './figure.js';
import { digits, percent } from './numbers.js';
import { palette } from './palette.js';
import { dataTable } from './table.js';

const MIB = 2 ** 20;

/** Plots time and memory of every phase, side by side. */
export function phaseFigure({ phases, seconds }: Pick<ReportHead, 'phases' | 'seconds'>): Figure | undefined {
  if (phases.length === 0) return undefined;
  const panel = (field: string, title: string, names: boolean) => ({
    ...{ width: 130, height: 26 * phases.length },
    mark: { type: 'bar', color: palette.blue.light, height: { band: 0.6 } },
    encoding: {
      x: { field, type: 'quantitative', axis: { title, tickCount: 4 } },
      y: {
        ...{ field: 'name', type: 'nominal', sort: null, title: null },
        axis: names ? { ticks: false, domain: false, labelColor: palette.ink.light } : null,
      },
    },
  });
  const longest = phases.reduce((a, b) => (b.seconds > a.seconds ? b : a));
  return {
    id: 'phases',
    title: 'Time and memory by phase',
    description: `${phases.length} phases; the longest is ${longest.name} with ${digits(longest.seconds)} of ${digits(seconds)} seconds.`,
    spec: {
      data: {
        values: phases.map(({ name, seconds: s, peakBytes }) => ({
          name,
          seconds: s,
          memory: peakBytes / MIB,
        })),
      },
      hconcat: [panel('seconds', 'seconds', true), panel('memory', 'peak memory (MiB)', false)],
      spacing: 24,
    },
    table: dataTable({
      id: 'phases-numbers',
      caption: 'Phases in the order in which they began',
      columns: [
        { title: 'Phase' },
        { title: 'Seconds', numeric: true },
        { title: 'Share', numeric: true },
        { title: 'Peak memory', numeric: true },
      ],
      groups: [
        {
          rows: phases.map(({ name, seconds: s, peakBytes }) => [
            ...[name, digits(s), percent(s / seconds, 0), formatBytes(peakBytes)],
          ]),
        },
      ],
    }),
  };
}
