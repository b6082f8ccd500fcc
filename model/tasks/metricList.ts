import { entryOf } from '../../engine/index.js';
import { isRecord } from '../files/jsonFile.js';
import type { TaskFileReader } from './taskFileReader.js';

/** How a task's model answers: it likes one of several texts best, gives one a likelihood, or writes a text. */
export type OutputType = 'multiple_choice' | 'loglikelihood' | 'generate_until';

/** Name of a task's metric. */
export type MetricName = 'acc' | 'acc_norm' | 'acc_bytes' | 'perplexity' | 'exact_match';

/** What exact match does to an answer and its target before it compares them, in this order; the names are lm-eval's. */
export interface ExactMatchRules {
  readonly regexes_to_ignore?: readonly string[];
  readonly ignore_case?: boolean;
  readonly ignore_punctuation?: boolean;
  readonly ignore_numbers?: boolean;
}

/** A task's metrics, and the rules of exact match. */
interface MetricList {
  readonly metrics: readonly MetricName[];
  readonly exactMatch: ExactMatchRules;
}

/** Each metric's only supported aggregation, and whether higher is better, as in lm-eval. */
const metricRules: Readonly<Record<MetricName, { aggregation: string; higherIsBetter: boolean }>> = {
  acc: { aggregation: 'mean', higherIsBetter: true },
  acc_norm: { aggregation: 'mean', higherIsBetter: true },
  acc_bytes: { aggregation: 'mean', higherIsBetter: true },
  perplexity: { aggregation: 'perplexity', higherIsBetter: false },
  exact_match: { aggregation: 'mean', higherIsBetter: true },
};

/** Metrics of each output type; the first two are the default. */
const metricsOf: Readonly<Record<OutputType, readonly MetricName[]>> = {
  multiple_choice: ['acc', 'acc_norm', 'acc_bytes'],
  loglikelihood: ['perplexity', 'acc'],
  generate_until: ['exact_match'],
};

export const outputTypes = Object.keys(metricsOf) as readonly OutputType[];

export const isOutputType = (word: string): word is OutputType => Object.hasOwn(metricsOf, word);

const isFlag = (value: unknown): boolean => typeof value === 'boolean';
const isTexts = (value: unknown): boolean =>
  Array.isArray(value) && value.every(item => typeof item === 'string');

/** What the rules of exact match have to be. */
const exactMatchRules: Readonly<Record<keyof ExactMatchRules, (value: unknown) => boolean>> = {
  regexes_to_ignore: isTexts,
  ignore_case: isFlag,
  ignore_punctuation: isFlag,
  ignore_numbers: isFlag,
};

/** Reads the field metric_list. @throws RmError CONFIG_INVALID. */
export function readMetricList(reader: TaskFileReader, outputType: OutputType): MetricList {
  const possible = metricsOf[outputType];
  const metrics = reader.values.metric_list ?? undefined;
  if (metrics === undefined) return { metrics: possible.slice(0, 2), exactMatch: {} };
  let exactMatch: ExactMatchRules = {};
  const wrong = (message: string) =>
    reader.wrong(
      'metric_list',
      message,
      `Write a list such as [{metric: ${possible[0]}}]; ${outputType} has the metrics ${possible.join(', ')}.`,
    );
  if (!Array.isArray(metrics) || metrics.length === 0) throw wrong('is not a non-empty list');
  const names = metrics.map(entry => {
    const { metric, aggregation, higher_is_better: higher, ...others } = isRecord(entry) ? entry : {};
    const name = possible.find(candidate => candidate === metric);
    if (!name) throw wrong(`has ${JSON.stringify(isRecord(entry) ? metric : entry)}`);
    const rule = metricRules[name];
    for (const [more, value] of Object.entries(others)) {
      const accepts = name === 'exact_match' ? entryOf(exactMatchRules, more) : undefined;
      if (!accepts) throw wrong(`gives ${name} a "${more}"`);
      if (!accepts(value)) throw wrong(`sets ${more} to ${JSON.stringify(value)}`);
    }
    if (name === 'exact_match') exactMatch = others;
    if (aggregation !== undefined && aggregation !== rule.aggregation) {
      throw wrong(
        `aggregates ${name} by ${JSON.stringify(aggregation)}, which should be ${rule.aggregation}`,
      );
    }
    if (higher !== undefined && higher !== rule.higherIsBetter) {
      throw wrong(`sets higher_is_better to ${JSON.stringify(higher)} for ${name}`);
    }
    return name;
  });
  for (const pattern of exactMatch.regexes_to_ignore ?? []) reader.pattern('metric_list', pattern);
  return { metrics: names, exactMatch };
}
