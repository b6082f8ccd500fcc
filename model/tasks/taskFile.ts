import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { RmError } from '../../engine/index.js';
import { isRecord } from '../files/jsonFile.js';
import { Template } from './template.js';

/** What can be measured of a task. */
export type MetricName = 'acc' | 'acc_norm' | 'acc_bytes' | 'perplexity';

/** How a value is taken from a row: the field of that name, else what the template gives; a constant is itself. */
export type Field =
  | { readonly kind: 'constant'; readonly value: unknown }
  | { readonly kind: 'template'; readonly template: Template };

/** A task as a task file describes it; the fields are lm-eval's of the same meaning. */
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
  /** Examples before every row, unless another number is asked for. */
  readonly fewshot: number;
  readonly metrics: readonly MetricName[];
  /** Fields that every row gets before all else, in this order. */
  readonly fields: readonly (readonly [name: string, template: Template])[];
  /** The field whose values divide the rows into groups with results of their own. */
  readonly groupBy: string | undefined;
  /** Files of rows and of examples, absolute. */
  readonly rows: string | undefined;
  readonly fewshotRows: string | undefined;
}

const lmEvalFields = [
  ...['task', 'output_type', 'description', 'doc_to_text', 'doc_to_choice', 'doc_to_target'],
  ...['target_delimiter', 'fewshot_delimiter', 'num_fewshot', 'fewshot_config', 'metric_list'],
];
const ownFields = ['rows', 'fewshot_rows', 'fields', 'group_by', 'dataset', 'paper'];
/** Of lm-eval: where its data comes from and how it is filed. Rows come from files here, so these say nothing. */
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

/** lm-eval's aggregation of each metric, and whether more is better: the only ones that are supported. */
const metricRules: Readonly<Record<MetricName, { aggregation: string; higherIsBetter: boolean }>> = {
  acc: { aggregation: 'mean', higherIsBetter: true },
  acc_norm: { aggregation: 'mean', higherIsBetter: true },
  acc_bytes: { aggregation: 'mean', higherIsBetter: true },
  perplexity: { aggregation: 'perplexity', higherIsBetter: false },
};

/** Metrics that each kind of output has; the first ones are what is measured where the file names none. */
const metricsOf: Readonly<Record<Task['outputType'], readonly MetricName[]>> = {
  multiple_choice: ['acc', 'acc_norm', 'acc_bytes'],
  loglikelihood: ['perplexity', 'acc'],
};

/** Reads one task file's values, each error naming file and field. */
class Reader {
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

  template(field: string, source: string): Template {
    try {
      return new Template(source);
    } catch (error) {
      throw this.wrong(
        field,
        `is no Jinja template: ${(error as Error).message}`,
        'Mend it: {{ }} prints a value, {% %} is a statement.',
      );
    }
  }

  /** A text is a field name or a template, all else a constant. */
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

async function readYaml(path: string): Promise<Record<string, unknown>> {
  const text = await readFile(path, 'utf8').catch(error => {
    throw new RmError('CONFIG_INVALID', `${path}: cannot be read: ${error.message}`, 'Check the path.');
  });
  const document = parseDocument(text);
  const [problem] = [...document.errors, ...document.warnings];
  if (problem) {
    const python = /!function/.test(problem.message);
    throw new RmError(
      'CONFIG_INVALID',
      `${path}: ${problem.message.split('\n')[0]}`,
      python
        ? 'Functions in Python cannot run here: write them as Jinja, with "fields" for what is needed in between.'
        : 'Mend the YAML at that place.',
    );
  }
  const value: unknown = document.toJS();
  if (isRecord(value)) return value;
  throw new RmError('CONFIG_INVALID', `${path}: is no table of fields`, 'Write "field: value" lines.');
}

function metricsFrom(reader: Reader, outputType: Task['outputType']): MetricName[] {
  const possible = metricsOf[outputType];
  const given = reader.values.metric_list ?? undefined;
  if (given === undefined) return possible.slice(0, 2);
  const wrong = (message: string) =>
    reader.wrong(
      'metric_list',
      message,
      `Write a list such as [{metric: acc}]; for ${outputType} there are: ${possible.join(', ')}.`,
    );
  if (!Array.isArray(given) || given.length === 0) throw wrong('is no list');
  return given.map(entry => {
    const { metric, aggregation, higher_is_better: higher, ...others } = isRecord(entry) ? entry : {};
    const name = possible.find(known => known === metric);
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
      throw wrong(`says higher_is_better ${JSON.stringify(higher)} of ${name}`);
    }
    return name;
  });
}

/**
 * Reads and checks a task file.
 *
 * @throws RmError CONFIG_INVALID naming file and field.
 */
export async function readTaskFile(path: string): Promise<Task> {
  const values = await readYaml(path);
  const reader = new Reader(path, values);
  const known = [...lmEvalFields, ...ownFields];
  for (const name of Object.keys(values)) {
    if (known.includes(name) || silentFields.includes(name)) continue;
    throw reader.wrong(name, 'is not known here', `Known fields: ${known.join(', ')}.`);
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
      'Only {sampler: first_n} is supported: the first rows that are not the one in question.',
    );
  }
  const docToChoice = reader.field('doc_to_choice');
  if (outputType === 'multiple_choice' && !docToChoice) reader.requiredText('doc_to_choice');
  const derived = values.fields ?? {};
  if (!isRecord(derived))
    throw reader.wrong('fields', 'is no table', 'Write "name: template" lines below it.');
  const beside = (field: string) => {
    const file = reader.text(field);
    return file === undefined ? undefined : resolve(dirname(path), file);
  };
  return {
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
  };
}
