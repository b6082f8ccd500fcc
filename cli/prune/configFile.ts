import { existsSync } from 'node:fs';
import { RmError } from '../../engine/errors.js';
import { didYouMean } from '../../engine/nearestWord.js';
import { readYamlFile } from '../../model/files/yamlFile.js';
import { calibrationSettings } from '../../replaceme/options/pruneSettings.js';
import { onOff, readValue, text, type ValueType, wholeNumber } from '../../replaceme/options/valueTypes.js';
import { defined } from '../options/defined.js';
import { toPaths } from '../options/paths.js';
import { camelCase, flagKey, type OptionSetting, withOption } from '../options/settings.js';
import { budgetFlags, configSettings, type PruneFlags } from './options.js';

/** A configuration file. */
export interface PruneConfig {
  /** What it sets, by the names of options in camel case. */
  readonly flags: PruneFlags;
  /** Known keys that have no effect here, with the reason. */
  readonly warnings: readonly string[];
}

/** The settings by their keys in a file. */
const settingsByKey = new Map(withOption(configSettings).map(setting => [flagKey(setting), setting]));

/** ReplaceMe's keys that mean one of our options. */
const renamed: Readonly<Record<string, string>> = {
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

/** ReplaceMe's keys that have no counterpart, and why. Values that switch them off pass silently. */
const withoutCounterpart: Readonly<Record<string, string>> = {
  use_4bit: "activations are measured with the model's own weights",
  min_distance_layer: 'all windows are considered (ReplaceMe itself ignores this key)',
  save_transform_only: 'the transform is folded into the weights and the whole model is written',
  distances_path: 'give "statistics" instead',
  activations_save_path: 'give "statistics" instead, which keeps what the fit needs of them',
  dataset_subset: 'files have no subsets',
  token: 'nothing is downloaded',
  trust_remote_code: "a model's own code is never run",
  push_to_hub: 'upload the result with: hf upload ORG/NAME OUT',
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

/** ReplaceMe's keys that are combined below. */
const combined = ['layers_to_skip', 'dataset', 'dataset_column', 'dataset_size', 'batch_size'];

/** Values of ReplaceMe's keys that match what rm-engine does. */
const matching: Readonly<Record<string, unknown>> = { loss: 'cosine', solver: 'adam' };

const isOff = (key: string, value: unknown): boolean =>
  value === false || value === 0 || value === '' || matching[key] === value;

/** Reads the fields of one file; errors name it. */
class Mapper {
  readonly flags: Record<string, unknown> = {};
  readonly warnings: string[] = [];
  readonly #keys = new Map<string, string>();

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

  parse<T>(key: string, value: unknown, type: ValueType<T>): T {
    const isSingle = ['string', 'number', 'boolean'].includes(typeof value);
    const parsed = isSingle ? readValue(type, String(value)) : undefined;
    if (parsed !== undefined) return parsed;
    const needs = isSingle ? type.needs : 'a single value';
    throw this.invalid(`"${key}" is ${JSON.stringify(value)}`, `Give ${needs}.`);
  }

  set(key: string, name: string, value: unknown): void {
    const before = this.#keys.get(name);
    if (before !== undefined) {
      throw this.invalid(`"${before}" and "${key}" say the same`, 'Keep one of the two.');
    }
    this.#keys.set(name, key);
    this.flags[name] = value;
  }

  setParsed(key: string, setting: OptionSetting): void {
    const { item } = setting.type;
    const value = item ? this.list(key, item) : this.parse(key, this.fields[key], setting.type);
    this.set(key, flagKey(setting), this.paths(key, `<${setting.takes}>`, value));
  }

  /** The values of what takes `word` as paths. */
  paths(key: string, word: string, value: unknown): unknown {
    return toPaths(word, value, ({ problem, fix }) => {
      throw this.invalid(`"${key}": ${problem}`, fix);
    });
  }

  /** One value, or a list of them. */
  list(key: string, item: ValueType<unknown>): unknown[] {
    const value = this.fields[key];
    const items: unknown[] = Array.isArray(value) ? value : [value];
    if (items.length === 0 || items.includes('')) {
      throw this.invalid(`"${key}" is ${JSON.stringify(value)}`, 'Give one value, or a list of them.');
    }
    return items.map(element => this.parse(key, element, item));
  }

  /** ReplaceMe's switches that choose between two of our values. */
  setSwitch(key: 'accurate' | 'merge_consecutive'): void {
    const on = this.parse(key, this.fields[key], onOff);
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
      this.set('layers_to_skip', 'layers', count('layers_to_skip') * ((this.flags.windows as number) ?? 1));
    }
    const length = given('max_length') ? count('max_length') : calibrationSettings.sequenceLength.default;
    if (given('dataset_size')) this.set('dataset_size', 'tokens', count('dataset_size') * length);
    if (given('batch_size')) this.set('batch_size', 'batchTokens', count('batch_size') * length);
    if (given('dataset')) {
      const file = this.paths(
        'dataset',
        '<file>',
        this.parse('dataset', this.fields.dataset, text),
      ) as string;
      if (isFile(file)) this.set('dataset', 'calib', [file]);
      else
        this.warn(
          'dataset',
          `'${file}' is no local file, and nothing is downloaded; give files with --calib`,
        );
    }
    if (!given('dataset_column')) return;
    const column = this.parse('dataset_column', this.fields.dataset_column, text);
    if (this.flags.calib) this.set('dataset_column', 'textField', column);
    else this.warn('dataset_column', 'it belongs to a "dataset" that is a local file');
  }
}

/**
 * Reads the fields of a configuration file: our own option names (sequence-length or sequenceLength) and ReplaceMe's
 * (layers_to_skip). null counts as absent.
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
    const setting = settingsByKey.get(name);
    const isSwitch = key === 'accurate' || key === 'merge_consecutive';
    const isForeign = Object.hasOwn(withoutCounterpart, key);
    if (!setting && !isForeign && !isSwitch && !combined.includes(key)) unknown.push(key);
    else if (value === null || value === undefined) continue;
    else if (isSwitch) mapper.setSwitch(key);
    else if (key === 'method' && Object.hasOwn(foreignMethods, `${value}`)) {
      mapper.set(key, key, foreignMethods[`${value}`]);
    } else if (setting) mapper.setParsed(key, setting);
    else if (isForeign && !isOff(key, value)) mapper.warn(key, withoutCounterpart[key]!);
  }
  if (unknown.length > 0) {
    const known = [...settingsByKey.keys()];
    throw mapper.invalid(
      `unknown ${unknown.length === 1 ? 'key' : 'keys'} ${unknown.map(key => `"${key}"`).join(', ')}`,
      `${didYouMean(unknown[0]!, known)}Known are ${known.join(', ')}, and the keys of ReplaceMe.`,
    );
  }
  mapper.setProducts(isFile);
  return { flags: mapper.flags, warnings: mapper.warnings };
}

/**
 * Reads a JSON or YAML configuration file.
 *
 * @throws RmError CONFIG_INVALID for a file that cannot be read, is neither, or has a wrong field.
 */
export async function readPruneConfig(path: string): Promise<PruneConfig> {
  return mapPruneConfig(await readYamlFile(path), path);
}

/**
 * The command line over the file. --layers, --ratio and --remove replace each other, --remove and --window too, and both
 * a selection.
 */
export function mergeFlags(file: PruneFlags, commandLine: PruneFlags): PruneFlags {
  const { layers, ratio, remove, window, select, windows, ...others } = file;
  const { maxKl, keepTop1, targetSize, targetParameters, ...rest } = others;
  const budget = budgetFlags.some(name => commandLine[name] !== undefined);
  const amount = budget || commandLine.layers !== undefined || commandLine.ratio !== undefined;
  const place = commandLine.remove !== undefined;
  return {
    ...rest,
    ...(!amount && !place && defined({ layers, ratio, maxKl, keepTop1, targetSize, targetParameters })),
    ...(!place && !budget && commandLine.select === undefined && defined({ window })),
    ...(!place && commandLine.window === undefined && defined({ select, windows })),
    ...(!amount && commandLine.window === undefined && defined({ remove })),
    ...defined(commandLine),
  };
}
