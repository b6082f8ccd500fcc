import { formatNumber } from '../../../engine/index.js';
import type { ModelOrigin } from '../../../model/index.js';
import { yamlText } from '../text/markdown.js';

/** Values that the metadata of a card hold. */
type Value = string | number | readonly Value[] | { readonly [key: string]: Value };

const isText = (value: Value): value is string | number =>
  typeof value === 'string' || typeof value === 'number';

// Python's YAML takes 1e-7 for a text: numbers have no exponent.
const scalar = (value: string | number): string =>
  typeof value === 'number'
    ? formatNumber(value, 6)
        .replace(/(\.\d*?)0+$/, '$1')
        .replace(/\.$/, '')
    : yamlText(value);

/** Lines of YAML for a value below its key or dash. */
function lines(value: Value): string[] {
  if (isText(value)) return [scalar(value)];
  if (Array.isArray(value)) {
    return (value as readonly Value[]).flatMap(item => {
      const [first = '', ...rest] = lines(item);
      return [`- ${first}`, ...rest.map(line => `  ${line}`)];
    });
  }
  return Object.entries(value).flatMap(([key, inner]) => {
    const below = lines(inner);
    if (isText(inner)) return [`${key}: ${below[0]}`];
    return [`${key}:`, ...below.map(line => (Array.isArray(inner) ? line : `  ${line}`))];
  });
}

/** A value that was measured on a text, or on images. */
export interface MeasuredValue {
  /** The data set's name and kind. */
  readonly data: string;
  readonly kind: 'text' | 'image';
  /** The measure as a word, and in words. */
  readonly metric: string;
  readonly name: string;
  readonly value: number;
}

/** Values of one text together, in the form of the hub's model-index. */
function modelIndex(model: string, task: string, values: readonly MeasuredValue[]): Value {
  const sets = [...new Set(values.map(({ data }) => data))];
  const results = sets.map(set => {
    const own = values.filter(({ data }) => data === set);
    return {
      task: { type: task },
      dataset: { name: set, type: own[0]!.kind },
      metrics: own.map(({ metric, name, value }) => ({ type: metric, value, name })),
    };
  });
  return [{ name: model, results }];
}

/**
 * The block at the beginning of a model card that the Hugging Face hub reads: the model it was made from, what it inherits
 * of that model's card, and the measured values.
 *
 * @param model its own name.
 */
export function cardMetadata(
  model: string,
  { id, inherited }: ModelOrigin,
  {
    task,
    tags,
    values,
  }: {
    readonly task: string;
    readonly tags: readonly string[];
    readonly values: readonly MeasuredValue[];
  },
): string {
  const finite = values.filter(({ value }) => Number.isFinite(value));
  const pipeline = inherited.pipeline_tag ?? task;
  const fields: Value = {
    ...(id !== undefined && { base_model: id }),
    ...inherited,
    library_name: 'transformers',
    pipeline_tag: pipeline,
    tags,
    ...(finite.length > 0 && { 'model-index': modelIndex(model, `${pipeline}`, finite) }),
  };
  return ['---', ...lines(fields), '---'].join('\n');
}
