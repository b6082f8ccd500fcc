import type { AdapterInfo } from '../engine/index.js';
import type { Benchmark, BenchText, Metric } from './measure.js';
import { digits, left, right } from './measure.js';

/** One adapter's numbers, to compare later runs with. */
export interface Baselines {
  readonly adapter: string;
  readonly benches: Readonly<
    Record<
      string,
      {
        readonly driver: string;
        readonly node: string;
        readonly platform: string;
        readonly date: string;
        /** Metrics by name. */
        readonly metrics: Readonly<Record<string, Omit<Metric, 'name'>>>;
      }
    >
  >;
}

/** Runs of the same code on a shared machine differ by up to this factor. */
const NOISE = 1.5;

const nameOf = ({ device, description }: AdapterInfo): string => device || description;

/** The adapter's name for file names: "llvmpipe-llvm-15-0-6-256-bits". */
export const adapterSlug = (info: AdapterInfo): string =>
  nameOf(info)
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');

/** The baselines with this run's numbers added; numbers of the same names are replaced. */
export function withBaseline(before: Baselines | undefined, result: Benchmark): Baselines {
  const { bench, adapter, node, platform, date, metrics } = result;
  const old = before?.benches[bench]?.metrics ?? {};
  const fresh = metrics.map(({ name, ...metric }) => [
    name,
    { ...metric, value: Number(metric.value.toPrecision(4)) },
  ]);
  return {
    adapter: nameOf(adapter),
    benches: {
      ...before?.benches,
      [bench]: {
        ...{ driver: adapter.description, node, platform, date },
        metrics: { ...old, ...Object.fromEntries(fresh) },
      },
    },
  };
}

/** Whether a parsed file has the form of Baselines. */
export function isBaselines(value: unknown): value is Baselines {
  const { adapter, benches } = (value ?? {}) as Partial<Baselines>;
  return (
    typeof adapter === 'string' &&
    typeof benches === 'object' &&
    benches !== null &&
    Object.values(benches).every(bench =>
      Object.values(bench?.metrics ?? { none: undefined }).every(metric => Number.isFinite(metric?.value)),
    )
  );
}

/** A number of this run and its baseline. */
export interface Comparison {
  readonly name: string;
  readonly unit: string;
  readonly now: number;
  readonly baseline?: number;
  /** now / baseline */
  readonly ratio?: number;
  /** Worse than the baseline by more than the noise. */
  readonly slower: boolean;
}

/** Pairs every number of this run with the baseline of the same name, if there is one. */
export function compareWithBaseline(
  { bench, metrics }: Pick<Benchmark, 'bench' | 'metrics'>,
  baselines: Baselines,
): Comparison[] {
  return metrics.map(({ name, unit, value, better }) => {
    const baseline = baselines.benches[bench]?.metrics[name]?.value;
    if (baseline === undefined) return { name, unit, now: value, slower: false };
    const ratio = value / baseline;
    return {
      name,
      unit,
      now: value,
      baseline,
      ratio,
      slower: (better === 'lower' ? ratio : 1 / ratio) > NOISE,
    };
  });
}

export function comparisonText(comparisons: readonly Comparison[]): BenchText {
  const slower = comparisons.filter(comparison => comparison.slower).length;
  return {
    description: 'compared with the baseline',
    tables: [
      {
        columns: [
          left('metric'),
          right('now'),
          right('baseline'),
          left('unit'),
          right('now/baseline'),
          left(''),
        ],
        rows: comparisons.map(comparison => [
          ...[
            comparison.name,
            digits(comparison.now),
            comparison.baseline === undefined ? '' : digits(comparison.baseline),
          ],
          ...[comparison.unit, comparison.ratio?.toFixed(2) ?? 'new', comparison.slower ? 'SLOWER' : ''],
        ]),
      },
    ],
    remarks: [
      `${slower} of ${comparisons.length} slower than the baseline by more than ${NOISE} x, the noise between runs on a busy machine.`,
    ],
  };
}
