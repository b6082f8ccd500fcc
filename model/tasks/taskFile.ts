import { dirname, resolve } from 'node:path';
import { checkArguments } from '../../engine/index.js';
import { aPath } from '../arguments/forms.js';
import { isRecord } from '../files/jsonFile.js';
import { readYamlFile } from '../files/yamlFile.js';
import type { DatasetSplit } from '../hub/datasetRows.js';
import { type GenerationRules, readGenerationRules } from './generationRules.js';
import {
  type ExactMatchRules,
  isOutputType,
  type MetricName,
  type OutputType,
  outputTypes,
  readMetricList,
} from './metricList.js';
import { type Field, TaskFileReader } from './taskFileReader.js';

/** How few-shot examples are chosen: the first ones, or at random as lm-eval does by default. */
export type Sampler = 'first_n' | 'default';

/** A task as described by a task file; the fields have the same meaning as lm-eval's. */
export interface Task {
  readonly name: string;
  /** The task file. */
  readonly path: string;
  readonly outputType: OutputType;
  readonly description: Field | undefined;
  readonly docToText: Field;
  readonly docToChoice: Field | undefined;
  readonly docToTarget: Field;
  readonly targetDelimiter: string;
  readonly fewshotDelimiter: string;
  /** Default number of few-shot examples before every row. */
  readonly fewshot: number;
  readonly sampler: Sampler;
  readonly metrics: readonly MetricName[];
  readonly exactMatch: ExactMatchRules;
  /** How texts are written and read; only for generate_until. */
  readonly generation: GenerationRules | undefined;
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
  ...['generation_kwargs', 'filter_list', 'repeats'],
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

/** As lm-eval chooses: the test split, else the one for validation; examples of the split that is for them. */
function hubRowsOf(reader: TaskFileReader): Pick<Task, 'hubRows' | 'hubFewshotRows'> {
  const repo = reader.text('dataset_path');
  const config = reader.text('dataset_name') ?? 'default';
  const rowsOf = (split: string | undefined): DatasetSplit | undefined =>
    repo?.includes('/') && split !== undefined ? { repo, config, split } : undefined;
  return {
    hubRows: rowsOf(reader.text('test_split') ?? reader.text('validation_split')),
    hubFewshotRows: rowsOf(reader.text('fewshot_split')),
  };
}

/** Without a sampler, the first examples; where texts are generated lm-eval's choice, on which their results depend much. */
function samplerOf(reader: TaskFileReader, outputType: OutputType): Sampler {
  const config = reader.values.fewshot_config ?? {};
  const onlySampler = isRecord(config) && Object.keys(config).every(key => key === 'sampler');
  const usual = outputType === 'generate_until' ? 'default' : 'first_n';
  const sampler = onlySampler ? (config.sampler ?? usual) : undefined;
  if (sampler === 'first_n' || sampler === 'default') return sampler;
  throw reader.wrong(
    'fewshot_config',
    `is ${JSON.stringify(config)}`,
    'Write {sampler: first_n} for the first rows other than the one in question, or {sampler: default} for random ones.',
  );
}

/**
 * Reads and checks a task file.
 *
 * @throws RmError CONFIG_INVALID naming file and field.
 */
export async function readTaskFile(path: string): Promise<Task> {
  checkArguments('readTaskFile', { path }, { path: aPath });
  const values = await readYamlFile(path);
  const reader = new TaskFileReader(path, values);
  const knownFields = [...lmEvalFields, ...ownFields];
  for (const name of Object.keys(values)) {
    if (knownFields.includes(name) || silentFields.includes(name)) continue;
    throw reader.wrong(name, 'is not a known field', `Known fields: ${knownFields.join(', ')}.`);
  }
  const outputType = reader.requiredText('output_type');
  if (!isOutputType(outputType)) {
    const fix = `It should be one of ${outputTypes.join(', ')}.`;
    throw reader.wrong('output_type', `is ${outputType}`, fix);
  }
  const fewshot = values.num_fewshot ?? 0;
  if (!Number.isSafeInteger(fewshot) || (fewshot as number) < 0) {
    throw reader.wrong('num_fewshot', `is ${JSON.stringify(fewshot)}`, 'It should be a whole number.');
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
  const fewshotDelimiter = reader.text('fewshot_delimiter') ?? '\n\n';
  const task: Task = {
    name: reader.requiredText('task'),
    path,
    outputType,
    description: reader.text('description') ? reader.field('description') : undefined,
    docToText: reader.requiredField('doc_to_text'),
    docToChoice,
    docToTarget: reader.requiredField('doc_to_target'),
    targetDelimiter: reader.text('target_delimiter') ?? ' ',
    fewshotDelimiter,
    fewshot: fewshot as number,
    sampler: samplerOf(reader, outputType),
    ...readMetricList(reader, outputType),
    generation: outputType === 'generate_until' ? readGenerationRules(reader, fewshotDelimiter) : undefined,
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
  await reader.checkSources();
  return task;
}
