import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { InvalidArgumentError } from 'commander';
import { RmError } from '../../engine/errors.js';
import { parseHealing } from '../../replaceme/healing/healingWords.js';
import { trainModes } from '../../replaceme/options/healOptions.js';
import {
  byteCount,
  layerList,
  notNegative,
  oneOf,
  type Parser,
  positive,
  share,
  unitNumber,
  weightDtype,
  wholeNumber,
} from '../options/optionTypes.js';

/** What a configuration file may say: the options of `prune`, its two folders and the global options. */
export interface PruneSettings {
  model?: string;
  out?: string;
  layers?: number;
  ratio?: number;
  window?: number;
  remove?: number[];
  select?: string;
  windows?: number;
  apart?: boolean;
  method?: string;
  heal?: string;
  healLr?: number;
  healBatchTokens?: number;
  ridge?: number;
  attentionStep?: number;
  sinkWeight?: number;
  alpha?: number;
  equation?: number;
  epochs?: number;
  learningRate?: number;
  l1?: number;
  l2?: number;
  scale?: string;
  faithful?: boolean;
  calib?: string[];
  calibTask?: string[];
  weights?: number[];
  mask?: number;
  generate?: number;
  statistics?: string;
  textField?: string;
  tokens?: number;
  sequenceLength?: number;
  batchTokens?: number;
  hostStates?: 'f32' | 'bf16';
  eval?: string[];
  evalTokens?: number;
  dtype?: 'f32' | 'f16' | 'bf16';
  maxShardSize?: number;
  report?: boolean;
  dryRun?: boolean;
  force?: boolean;
  adapter?: string;
  memoryLimit?: number;
  devices?: string;
}

export interface PruneConfig {
  readonly settings: PruneSettings;
  /** Keys that are known but cannot be honoured, with the reason. */
  readonly warnings: readonly string[];
}

const text: Parser<string> = value => value;
const healing: Parser<string> = Object.assign(
  (value: string) => {
    try {
      parseHealing(value);
    } catch (error) {
      throw new InvalidArgumentError((error as RmError).fix);
    }
    return value;
  },
  { choices: ['none', 'closed-form', ...trainModes] },
);
const flag: Parser<boolean> = value => oneOf('true', 'false')(value) === 'true';

/** How each of several values is read. */
export const listParsers = { calib: text, calibTask: text, weights: positive, eval: text } as const;

/** How a value is read; the command line reads its options with the same parsers. */
export const settingParsers = {
  model: text,
  out: text,
  layers: wholeNumber(1),
  ratio: share,
  window: wholeNumber(0),
  remove: layerList,
  select: text,
  windows: wholeNumber(1),
  apart: flag,
  method: text,
  heal: healing,
  healLr: positive,
  healBatchTokens: wholeNumber(2),
  ridge: positive,
  attentionStep: unitNumber,
  sinkWeight: notNegative,
  alpha: notNegative,
  equation: value => Number(oneOf('7', '8')(value)),
  epochs: wholeNumber(1),
  learningRate: positive,
  l1: notNegative,
  l2: notNegative,
  scale: oneOf('paper', 'least-squares'),
  faithful: flag,
  mask: share,
  generate: wholeNumber(1),
  statistics: text,
  textField: text,
  tokens: wholeNumber(1),
  sequenceLength: wholeNumber(2),
  batchTokens: wholeNumber(1),
  hostStates: oneOf('f32', 'bf16'),
  evalTokens: wholeNumber(2),
  dtype: weightDtype,
  maxShardSize: byteCount,
  report: flag,
  dryRun: flag,
  force: flag,
  adapter: text,
  memoryLimit: byteCount,
  devices: text,
} as const satisfies {
  [K in Exclude<keyof PruneSettings, keyof typeof listParsers>]-?: Parser<NonNullable<PruneSettings[K]>>;
};

const DEFAULT_MAX_LENGTH = 1024;

/** ReplaceMe's keys that mean one of our options. */
const renamed: Readonly<Record<string, keyof typeof settingParsers>> = {
  model_path: 'model',
  save_path: 'out',
  max_length: 'sequenceLength',
  num_A: 'windows',
};

/** ReplaceMe's methods by our names. */
const foreignMethods: Readonly<Record<string, string>> = {
  lstsq: 'replaceme-ls',
  cosine: 'replaceme-cosine',
};

/** ReplaceMe's keys that have no counterpart, and why; values that switch them off pass silently. */
const withoutCounterpart: Readonly<Record<string, string>> = {
  use_4bit: "activations are measured with the model's own weights",
  min_distance_layer: 'all windows are considered (ReplaceMe itself ignores this key)',
  save_transform_only: 'the transform is folded into the weights and the whole model is written',
  distances_path: 'give "statistics" instead',
  activations_save_path: 'give "statistics" instead, which keeps what the fit needs of them',
  dataset_subset: 'files have no subsets',
  token: 'nothing is downloaded',
  start_id: 'give "window" instead',
  end_id: 'give "window" instead',
  num_layer: 'give "window" instead',
  loss: 'only the cosine distance is fitted step by step; "lstsq" fits squares in closed form',
  solver: 'only Adam fits the cosine distance',
  diag: 'give "method: replaceme-diagonal" instead, by least squares',
  two_vectors: 'no method fits two vectors',
  thri: 'no method fits a triangular map',
  strategy: 'give "select" instead',
};

/** Computed from several keys below. */
const combined = ['layers_to_skip', 'dataset', 'dataset_column', 'dataset_size', 'batch_size'];

/** Values of ReplaceMe's keys that ask for what is done anyway. */
const usual: Readonly<Record<string, unknown>> = { loss: 'cosine', solver: 'adam' };

const isOff = (key: string, value: unknown): boolean =>
  value === false || value === 0 || value === '' || usual[key] === value;

const camelCase = (key: string): string =>
  key.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** Reads the fields of one file, complaining by its name. */
class Mapper {
  readonly settings: PruneSettings = {};
  readonly warnings: string[] = [];
  readonly #givenBy = new Map<string, string>();

  constructor(
    private readonly fields: Readonly<Record<string, unknown>>,
    private readonly path: string,
  ) {}

  invalid(problem: string, fix: string): RmError {
    return new RmError('CONFIG_INVALID', `${this.path}: ${problem}`, fix);
  }

  warn(key: string, reason: string): void {
    this.warnings.push(`${this.path}: "${key}" is not used: ${reason}`);
  }

  parse<T>(key: string, value: unknown, parser: Parser<T>): T {
    if (!['string', 'number', 'boolean'].includes(typeof value)) {
      throw this.invalid(`"${key}" is ${JSON.stringify(value)}`, 'Give a single value.');
    }
    try {
      return parser(String(value));
    } catch (error) {
      throw this.invalid(`"${key}" is ${JSON.stringify(value)}`, (error as Error).message);
    }
  }

  set<K extends keyof PruneSettings>(key: string, name: K, value: PruneSettings[K]): void {
    const before = this.#givenBy.get(name);
    if (before !== undefined) {
      throw this.invalid(`"${before}" and "${key}" say the same`, 'Keep one of the two.');
    }
    this.#givenBy.set(name, key);
    this.settings[name] = value;
  }

  setParsed(key: string, name: keyof typeof settingParsers): void {
    const parser: Parser<unknown> = settingParsers[name];
    this.set(key, name, this.parse(key, this.fields[key], parser) as never);
  }

  setList(key: string, name: keyof typeof listParsers): void {
    const value = this.fields[key];
    const items: unknown[] = Array.isArray(value) ? value : [value];
    if (items.length === 0 || items.includes('')) {
      throw this.invalid(`"${key}" is ${JSON.stringify(value)}`, 'Give one value, or a list of them.');
    }
    const parser: Parser<string | number> = listParsers[name];
    this.set(key, name, items.map(item => this.parse(key, item, parser)) as never);
  }

  /** method, with ReplaceMe's names for it. */
  setMethod(key: string): void {
    const value = this.fields[key];
    const known = typeof value === 'string' && Object.hasOwn(foreignMethods, value);
    if (known) this.set(key, 'method', foreignMethods[value]!);
    else this.setParsed(key, 'method');
  }

  /** ReplaceMe's switches that choose between two of our values. */
  setSwitch(key: 'accurate' | 'merge_consecutive'): void {
    const on = this.parse(key, this.fields[key], flag);
    if (key === 'accurate') this.set(key, 'equation', on ? 7 : 8);
    else this.set(key, 'apart', !on);
  }

  /**
   * ReplaceMe counts its calibration in samples of at most max_length tokens, and the layers of each window instead of all
   * of them.
   */
  setProducts(isFile: (path: string) => boolean): void {
    const given = (key: string) => this.fields[key] !== undefined && this.fields[key] !== null;
    const count = (key: string) => this.parse(key, this.fields[key], wholeNumber(1));
    if (given('layers_to_skip')) {
      this.set('layers_to_skip', 'layers', count('layers_to_skip') * (this.settings.windows ?? 1));
    }
    const length = given('max_length') ? count('max_length') : DEFAULT_MAX_LENGTH;
    if (given('dataset_size')) this.set('dataset_size', 'tokens', count('dataset_size') * length);
    if (given('batch_size')) this.set('batch_size', 'batchTokens', count('batch_size') * length);
    if (given('dataset')) {
      const file = this.parse('dataset', this.fields.dataset, text);
      if (isFile(file)) this.setList('dataset', 'calib');
      else
        this.warn(
          'dataset',
          `'${file}' is no local file, and nothing is downloaded; give files with --calib`,
        );
    }
    if (!given('dataset_column')) return;
    const column = this.parse('dataset_column', this.fields.dataset_column, text);
    if (this.settings.calib) this.set('dataset_column', 'textField', column);
    else this.warn('dataset_column', 'it belongs to a "dataset" that is a local file');
  }
}

/**
 * Understands the fields of a configuration file: our own option names (sequence-length or sequenceLength) and
 * ReplaceMe's (layers_to_skip). null counts as absent.
 *
 * @throws RmError CONFIG_INVALID for a wrong value, an option given twice, or keys that neither program knows.
 */
export function mapPruneConfig(
  fields: Readonly<Record<string, unknown>>,
  path: string,
  isFile: (path: string) => boolean = existsSync,
): PruneConfig {
  const mapper = new Mapper(fields, path);
  const unknown: string[] = [];
  for (const [key, value] of Object.entries(fields)) {
    const name = Object.hasOwn(renamed, key) ? renamed[key]! : camelCase(key);
    const isList = Object.hasOwn(listParsers, name);
    const isOwn = isList || Object.hasOwn(settingParsers, name);
    const isSwitch = key === 'accurate' || key === 'merge_consecutive';
    const isForeign = Object.hasOwn(withoutCounterpart, key);
    if (!isOwn && !isForeign && !isSwitch && !combined.includes(key)) unknown.push(key);
    else if (value === null || value === undefined) continue;
    else if (isList) mapper.setList(key, name as keyof typeof listParsers);
    else if (isSwitch) mapper.setSwitch(key);
    else if (name === 'method') mapper.setMethod(key);
    else if (isOwn) mapper.setParsed(key, name as keyof typeof settingParsers);
    else if (isForeign && !isOff(key, value)) mapper.warn(key, withoutCounterpart[key]!);
  }
  if (unknown.length > 0) {
    const names = [...Object.keys(settingParsers), ...Object.keys(listParsers)].join(', ');
    throw mapper.invalid(
      `unknown ${unknown.length === 1 ? 'key' : 'keys'} ${unknown.map(key => `"${key}"`).join(', ')}`,
      `Known are ${names}, and the keys of ReplaceMe.`,
    );
  }
  mapper.setProducts(isFile);
  return { settings: mapper.settings, warnings: mapper.warnings };
}

/**
 * Reads a JSON or YAML configuration file.
 *
 * @throws RmError CONFIG_INVALID where it cannot be read, is neither, or says what is not understood.
 */
export async function readPruneConfig(path: string): Promise<PruneConfig> {
  const { parse } = await import('yaml');
  const invalid = (problem: string, fix: string, cause?: unknown) =>
    new RmError('CONFIG_INVALID', `${path}: ${problem}`, fix, { cause });
  const content = await readFile(path, 'utf8').catch(cause => {
    throw invalid(`cannot be read: ${(cause as Error).message}`, 'Check the path of --config.', cause);
  });
  let fields: unknown;
  try {
    // JSON is YAML too.
    fields = parse(content);
  } catch (cause) {
    throw invalid(
      `neither JSON nor YAML: ${(cause as Error).message.split('\n')[0]}`,
      'Mend the place named.',
      cause,
    );
  }
  if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) {
    throw invalid('is not a list of "name: value" lines', 'For example: layers: 4');
  }
  return mapPruneConfig(fields as Record<string, unknown>, path);
}
