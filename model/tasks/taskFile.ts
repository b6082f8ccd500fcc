import { dirname, resolve } from 'node:path';
import { RmError } from '../../engine/index.js';
import { isRecord } from '../files/jsonFile.js';
import { readYamlFile } from '../files/yamlFile.js';
import type { DatasetSplit } from '../hub/datasetRows.js';
import { checkTemplates } from './templates.js';

/** Name of a task's metric. */
export type MetricName = 'acc' | 'acc_norm' | 'acc_bytes' | 'perplexity';

/** How to get a value from a row: by the field with the template's text as its name, else by the template, or a constant. */
export type Field =
  | { readonly kind: 'constant'; readonly value: unknown }
  | { readonly kind: 'template'; readonly template: string };

/** A task as described by a task file; the fields have the same meaning as lm-eval's. */
export interface Task {
  readonly name: string;
  /** The task file. */
  readonly path: string;
  readonly outputType: 'multiple_choice' | 'loglikelihood';
  readonly description: Field | undefined;
  readonly docToText: Field;
  readonly docToChoice: Field | undefined;
  readonly docToTarget: Field;
  readonly targetDelimiter: string;
  readonly fewshotDelimiter: string;
  /** Default number of few-shot examples before every row. */
  readonly fewshot: number;
  readonly metrics: readonly MetricName[];
  /** Derived fields, added to every row in this order. */
  readonly fields: readonly (readonly [name: string, template: string])[];
  /** The field that divides the rows into groups with separate results. */
  readonly groupBy: string | undefined;
  /** Files of rows and of examples, absolute. */
  readonly rows: string | undefined;
  readonly fewshotRows: string | undefined;
  /** The same on the Hugging Face hub. */
  readonly hubRows: DatasetSplit | undefined;
  readonly hubFewshotRows: DatasetSplit | undefined;
  /** Where the rows are to be had, in words. */
  readonly dataset: string | undefined;
}

const lmEvalFields = [
  ...['task', 'output_type', 'description', 'doc_to_text', 'doc_to_choice', 'doc_to_target'],
  ...['target_delimiter', 'fewshot_delimiter', 'num_fewshot', 'fewshot_config', 'metric_list'],
];
const ownFields = ['rows', 'fewshot_rows', 'fields', 'group_by', 'dataset', 'paper'];
/** lm-eval's fields about the filing of data, and about its source where that is no split of a data set. */
const silentFields = [
  ...['dataset_path', 'dataset_name', 'dataset_kwargs', 'training_split', 'validation_split', 'test_split'],
  ...[
    'fewshot_split',
    'tag',
    'task_alias',
    'metadata',
    'should_decontaminate',
    'doc_to_decontamination_query',
  ],
];

/** Each metric's only supported aggregation, and whether higher is better, as in lm-eval. */
const metricRules: Readonly<Record<MetricName, { aggregation: string; higherIsBetter: boolean }>> = {
  acc: { aggregation: 'mean', higherIsBetter: true },
  acc_norm: { aggregation: 'mean', higherIsBetter: true },
  acc_bytes: { aggregation: 'mean', higherIsBetter: true },
  perplexity: { aggregation: 'perplexity', higherIsBetter: false },
};

/** Metrics of each output type; the first two are the default. */
const metricsOf: Readonly<Record<Task['outputType'], readonly MetricName[]>> = {
  multiple_choice: ['acc', 'acc_norm', 'acc_bytes'],
  loglikelihood: ['perplexity', 'acc'],
};

/** Reads a task file's values; every error names the file and the field. */
class Reader {
  readonly #templates: [field: string, source: string][] = [];

  constructor(
    readonly path: string,
    readonly values: Readonly<Record<string, unknown>>,
  ) {}

  wrong(field: string, message: string, fix: string): RmError {
    return new RmError('CONFIG_INVALID', `${this.path}: "${field}" ${message}`, fix);
  }

  text(field: string): string | undefined {
    const value = this.values[field] ?? undefined;
    if (value === undefined || typeof value === 'string') return value;
    throw this.wrong(field, `is ${JSON.stringify(value)}`, 'It should be a text.');
  }

  requiredText(field: string): string {
    const value = this.text(field);
    if (value) return value;
    throw this.wrong(field, 'is missing', 'Add it; docs/tasks.md explains the fields of a task file.');
  }

  /** A template, which `checkTemplates` checks with all others. */
  template(field: string, source: string): string {
    this.#templates.push([field, source]);
    return source;
  }

  /** @throws RmError for the first template that is not Jinja. */
  async checkTemplates(): Promise<void> {
    const problems = await checkTemplates(
      this.path,
      this.#templates.map(([, source]) => source),
    );
    const wrong = problems.findIndex(problem => problem !== null);
    if (wrong < 0) return;
    throw this.wrong(
      this.#templates[wrong]![0],
      `is not a Jinja template: ${problems[wrong]}`,
      'Correct it: {{ }} prints a value, {% %} is a statement.',
    );
  }

  /** Reads a field: a text is a field name or a template, anything else a constant. */
  field(name: string): Field | undefined {
    const value = this.values[name] ?? undefined;
    if (value === undefined) return undefined;
    if (typeof value === 'string') return { kind: 'template', template: this.template(name, value) };
    return { kind: 'constant', value };
  }

  requiredField(name: string): Field {
    this.values[name] ?? this.requiredText(name);
    return this.field(name)!;
  }
}

function metricsFrom(reader: Reader, outputType: Task['outputType']): MetricName[] {
  const possible = metricsOf[outputType];
  const metrics = reader.values.metric_list ?? undefined;
  if (metrics === undefined) return possible.slice(0, 2);
  const wrong = (message: string) =>
    reader.wrong(
      'metric_list',
      message,
      `Write a list such as [{metric: acc}]; ${outputType} has the metrics ${possible.join(', ')}.`,
    );
  if (!Array.isArray(metrics) || metrics.length === 0) throw wrong('is not a non-empty list');
  return metrics.map(entry => {
    const { metric, aggregation, higher_is_better: higher, ...others } = isRecord(entry) ? entry : {};
    const name = possible.find(candidate => candidate === metric);
    if (!name) throw wrong(`has ${JSON.stringify(isRecord(entry) ? metric : entry)}`);
    const rule = metricRules[name];
    const more = Object.keys(others)[0];
    if (more !== undefined) throw wrong(`gives ${name} a "${more}"`);
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
}

/** As lm-eval chooses: the test split, else the one for validation; examples of the split that is for them. */
function hubRowsOf(reader: Reader): Pick<Task, 'hubRows' | 'hubFewshotRows'> {
  const repo = reader.text('dataset_path');
  const config = reader.text('dataset_name') ?? 'default';
  const rowsOf = (split: string | undefined): DatasetSplit | undefined =>
    repo?.includes('/') && split !== undefined ? { repo, config, split } : undefined;
  return {
    hubRows: rowsOf(reader.text('test_split') ?? reader.text('validation_split')),
    hubFewshotRows: rowsOf(reader.text('fewshot_split')),
  };
}

/**
 * Reads and checks a task file.
 *
 * @throws RmError CONFIG_INVALID naming file and field.
 */
export async function readTaskFile(path: string): Promise<Task> {
  const values = await readYamlFile(path);
  const reader = new Reader(path, values);
  const knownFields = [...lmEvalFields, ...ownFields];
  for (const name of Object.keys(values)) {
    if (knownFields.includes(name) || silentFields.includes(name)) continue;
    throw reader.wrong(name, 'is not a known field', `Known fields: ${knownFields.join(', ')}.`);
  }
  const outputType = reader.requiredText('output_type');
  if (outputType !== 'multiple_choice' && outputType !== 'loglikelihood') {
    throw reader.wrong('output_type', `is ${outputType}`, 'It should be multiple_choice or loglikelihood.');
  }
  const fewshot = values.num_fewshot ?? 0;
  if (!Number.isSafeInteger(fewshot) || (fewshot as number) < 0) {
    throw reader.wrong('num_fewshot', `is ${JSON.stringify(fewshot)}`, 'It should be a whole number.');
  }
  const config = values.fewshot_config ?? {};
  const onlySampler = isRecord(config) && Object.keys(config).every(key => key === 'sampler');
  if (!onlySampler || (config.sampler ?? 'first_n') !== 'first_n') {
    throw reader.wrong(
      'fewshot_config',
      `is ${JSON.stringify(config)}`,
      'Only {sampler: first_n} is supported: the first rows other than the one in question.',
    );
  }
  const docToChoice = reader.field('doc_to_choice');
  if (outputType === 'multiple_choice' && !docToChoice) reader.requiredText('doc_to_choice');
  const derived = values.fields ?? {};
  if (!isRecord(derived))
    throw reader.wrong('fields', 'is not a table', 'Write "name: template" lines below it.');
  const beside = (field: string) => {
    const file = reader.text(field);
    return file === undefined ? undefined : resolve(dirname(path), file);
  };
  const task: Task = {
    name: reader.requiredText('task'),
    path,
    outputType,
    description: reader.text('description') ? reader.field('description') : undefined,
    docToText: reader.requiredField('doc_to_text'),
    docToChoice,
    docToTarget: reader.requiredField('doc_to_target'),
    targetDelimiter: reader.text('target_delimiter') ?? ' ',
    fewshotDelimiter: reader.text('fewshot_delimiter') ?? '\n\n',
    fewshot: fewshot as number,
    metrics: metricsFrom(reader, outputType),
    fields: Object.entries(derived).map(([name, source]) => {
      if (typeof source === 'string') return [name, reader.template(`fields.${name}`, source)];
      throw reader.wrong(`fields.${name}`, `is ${JSON.stringify(source)}`, 'It should be a template.');
    }),
    groupBy: reader.text('group_by'),
    rows: beside('rows'),
    fewshotRows: beside('fewshot_rows'),
    ...hubRowsOf(reader),
    dataset: reader.text('dataset'),
  };
  await reader.checkTemplates();
  return task;
}
