import { entryOf } from '../../engine/index.js';
import { isRecord } from '../files/jsonFile.js';
import type { TaskFileReader } from './taskFileReader.js';

/** Steps that make of a generated text the answer to compare, as lm-eval's filters of these names do. */
export interface AnswerFilter {
  readonly name: string;
  readonly steps: readonly (Readonly<Record<string, unknown>> & { readonly function: string })[];
}

/** How a task's texts are written and read. */
export interface GenerationRules {
  /** Texts before which an answer ends, besides the model's end-of-text token. */
  readonly until: readonly string[];
  /** Most new tokens. */
  readonly maxTokens: number;
  readonly filters: readonly AnswerFilter[];
}

/** lm-eval's default. */
const MOST_TOKENS = 256;

/** lm-eval's name for the filter of a task that states none. */
export const NO_FILTER = 'none';

/** Names of the most new tokens, the first of which counts. */
const lengths = ['max_gen_toks', 'max_new_tokens', 'max_tokens', 'max_completion_tokens'];

const isText = (value: unknown): boolean => typeof value === 'string';

/** The filters' functions before take_first, and what their settings have to be. */
const functions: Readonly<Record<string, Readonly<Record<string, (value: unknown) => boolean>>>> = {
  regex: { regex_pattern: isText, group_select: Number.isInteger, fallback: isText },
  remove_whitespace: {},
  lowercase: {},
  uppercase: {},
  map: { mapping_dict: isRecord, default_value: value => value === null || isText(value) },
};

/** Reads generation_kwargs and filter_list. @throws RmError CONFIG_INVALID for what is not greedy, or not known. */
export function readGenerationRules(reader: TaskFileReader, fewshotDelimiter: string): GenerationRules {
  const given = reader.values.generation_kwargs ?? {};
  const wrong = (message: string, fix: string) => reader.wrong('generation_kwargs', message, fix);
  if (!isRecord(given)) throw wrong('is not a table', 'Write "until: [...]" below it.');
  const { until = [fewshotDelimiter], do_sample: sample = false, temperature = 0, ...others } = given;
  if (sample !== false || temperature !== 0) {
    throw wrong('asks for random tokens', 'Only greedy generation is supported: do_sample: false.');
  }
  const unknown = Object.keys(others).find(name => !lengths.includes(name));
  if (unknown !== undefined) {
    throw wrong(`has "${unknown}"`, `Known: until, do_sample, temperature, ${lengths.join(', ')}.`);
  }
  const maxTokens = lengths.map(name => others[name] ?? undefined).find(value => value !== undefined);
  if (maxTokens !== undefined && !(Number.isSafeInteger(maxTokens) && (maxTokens as number) > 0)) {
    throw wrong(
      `sets the most tokens to ${JSON.stringify(maxTokens)}`,
      'It should be a whole number above 0.',
    );
  }
  const stops = Array.isArray(until) ? until : [until];
  if (!stops.every(stop => typeof stop === 'string' && stop !== '')) {
    throw wrong(`has "until: ${JSON.stringify(until)}"`, 'It should be a list of texts that are not empty.');
  }
  return {
    until: stops as string[],
    maxTokens: (maxTokens as number | undefined) ?? MOST_TOKENS,
    filters: readFilters(reader),
  };
}

function readFilters(reader: TaskFileReader): AnswerFilter[] {
  const { repeats = 1, filter_list: list } = reader.values;
  if (repeats !== 1 && repeats !== null) {
    throw reader.wrong('repeats', `is ${JSON.stringify(repeats)}`, 'Only one answer to a row is supported.');
  }
  const wrong = (message: string) =>
    reader.wrong(
      'filter_list',
      message,
      `Write a list of {name, filter}, each filter a list of {function: ...} that ends with take_first. Known functions: ${Object.keys(functions).join(', ')}.`,
    );
  if (list === undefined || list === null) return [{ name: NO_FILTER, steps: [] }];
  if (!Array.isArray(list) || list.length === 0) throw wrong('is not a non-empty list');
  const filters = list.map((entry): AnswerFilter => {
    const { name, filter } = isRecord(entry) ? entry : {};
    if (typeof name !== 'string' || !name || !Array.isArray(filter))
      throw wrong(`has ${JSON.stringify(entry)}`);
    const [last, ...before] = [...filter].reverse();
    if (!isRecord(last) || last.function !== 'take_first')
      throw wrong(`does not end "${name}" with take_first`);
    return { name, steps: before.reverse().map(step => stepOf(reader, step, wrong)) };
  });
  const twice = filters.find(({ name }, i) => filters.findIndex(other => other.name === name) < i);
  if (twice) throw wrong(`has two filters "${twice.name}"`);
  return filters;
}

function stepOf(
  reader: TaskFileReader,
  step: unknown,
  wrong: (message: string) => Error,
): AnswerFilter['steps'][number] {
  const { function: name, ...settings } = isRecord(step) ? step : {};
  const known = typeof name === 'string' ? entryOf(functions, name) : undefined;
  if (!known) throw wrong(`has the function ${JSON.stringify(name)}`);
  for (const [setting, value] of Object.entries(settings)) {
    const accepts = entryOf(known, setting);
    if (!accepts) throw wrong(`gives ${name} a "${setting}"`);
    if (!accepts(value)) throw wrong(`sets ${setting} to ${JSON.stringify(value)}`);
  }
  if (name === 'regex') {
    // lm-eval's default.
    const pattern = settings.regex_pattern ?? String.raw`#### (\-?[0-9\.\,]+)`;
    return { function: name, ...settings, regex_pattern: reader.pattern('filter_list', pattern as string) };
  }
  return { function: name as string, ...settings };
}
