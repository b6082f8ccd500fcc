import { type DType, entryOf, RmError } from '../../engine/index.js';
import { isRecord } from '../files/jsonFile.js';

/** Typed access to a config.json (or an object within it); every error names the file and the field. */
export class ConfigReader {
  constructor(
    private readonly fields: Record<string, unknown>,
    readonly path: string,
    private readonly prefix = '',
    /** Full names of the fields that were read, with a dot behind those of opened objects; shared by the readers of a file. */
    private readonly known = new Set<string>(),
  ) {}

  /** Counts fields as known that the family reads only in some models, or that transformers reads and does not use. */
  knows(...fields: readonly string[]): this {
    for (const field of fields) this.known.add(this.prefix + field);
    return this;
  }

  /** Full names and values of the fields that nothing has read, also within the objects that were read. */
  unread(): [name: string, value: unknown][] {
    return Object.entries(this.fields).flatMap(([field, value]) => {
      const name = this.prefix + field;
      if (!this.known.has(name)) return [[name, value] as [string, unknown]];
      return isRecord(value) && this.known.has(`${name}.`) ? this.#inner(field, value).unread() : [];
    });
  }

  #inner(field: string, fields: Record<string, unknown>): ConfigReader {
    return new ConfigReader(fields, this.path, `${this.prefix}${field}.`, this.known);
  }

  /** Creates a CONFIG_INVALID about one field. */
  invalid(field: string, problem: string): RmError {
    return new RmError(
      'CONFIG_INVALID',
      `${this.path}: "${this.prefix}${field}" ${problem}`,
      "Compare it with the model's published config.json, or download that again.",
    );
  }

  /** Creates an UNSUPPORTED_FAMILY about one field: its value is valid, but not supported here. */
  unsupported(field: string, problem: string, fix: string): RmError {
    return new RmError('UNSUPPORTED_FAMILY', `${this.path}: "${this.prefix}${field}" ${problem}`, fix);
  }

  /** Returns a field; JSON null counts as absent, as in transformers. */
  get(field: string): unknown {
    this.knows(field);
    return entryOf(this.fields, field) ?? undefined;
  }

  get isEmpty(): boolean {
    return Object.keys(this.fields).length === 0;
  }

  has(field: string): boolean {
    this.knows(field);
    return Object.hasOwn(this.fields, field);
  }

  private read<T>(
    field: string,
    fallback: T | undefined,
    kind: string,
    test: (value: unknown) => value is T,
  ): T {
    const value = this.get(field);
    if (value === undefined) {
      if (fallback !== undefined) return fallback;
      throw this.invalid(field, `is missing; it should be ${kind}`);
    }
    if (!test(value)) throw this.invalid(field, `is ${JSON.stringify(value)}; it should be ${kind}`);
    return value;
  }

  /** Reads a whole number of at least 1. */
  count(field: string, fallback?: number): number {
    const test = (v: unknown): v is number => Number.isSafeInteger(v) && (v as number) >= 1;
    return this.read(field, fallback, 'a whole number of at least 1', test);
  }

  positive(field: string, fallback?: number): number {
    const test = (v: unknown): v is number => typeof v === 'number' && v > 0 && Number.isFinite(v);
    return this.read(field, fallback, 'a number above 0', test);
  }

  nonNegative(field: string): number {
    return this.get(field) === 0 ? 0 : this.positive(field);
  }

  /** Reads `length` numbers above 0. */
  positives(field: string, length: number): readonly number[] {
    const test = (v: unknown): v is number[] =>
      Array.isArray(v) &&
      v.length === length &&
      v.every(x => typeof x === 'number' && x > 0 && Number.isFinite(x));
    return this.read(field, undefined, `a list of ${length} numbers above 0`, test);
  }

  /** The same object, in which these values stand for fields that are missing. */
  withDefaults(defaults: Record<string, unknown>): ConfigReader {
    const stated = Object.entries(this.fields).filter(([, value]) => value !== null);
    return new ConfigReader(
      { ...defaults, ...Object.fromEntries(stated) },
      this.path,
      this.prefix,
      this.known,
    );
  }

  /** The same object with these values for fields, whatever it states. */
  with(fields: Record<string, unknown>): ConfigReader {
    return new ConfigReader({ ...this.fields, ...fields }, this.path, this.prefix, this.known);
  }

  /** Reads a list of strings out of `choices`; undefined if the field is missing. @throws RmError UNSUPPORTED_FAMILY for others. */
  choices<T extends string>(field: string, length: number, choices: readonly T[]): T[] | undefined {
    const value = this.get(field);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || value.length !== length) {
      throw this.invalid(field, `should be a list with an entry for each of the ${length} layers`);
    }
    const other = value.find(entry => !choices.includes(entry as T)) as unknown;
    if (other !== undefined) {
      throw this.unsupported(
        field,
        `has an entry ${JSON.stringify(other)}; supported are ${choices.join(', ')}`,
        'Choose a model whose layers have these kinds.',
      );
    }
    return value as T[];
  }

  flag(field: string, fallback: boolean): boolean {
    return this.read(field, fallback, 'true or false', (v): v is boolean => typeof v === 'boolean');
  }

  text(field: string, fallback?: string): string {
    return this.read(field, fallback, 'a string', (v): v is string => typeof v === 'string');
  }

  object(field: string): ConfigReader {
    this.known.add(`${this.prefix}${field}.`);
    return this.#inner(field, this.read(field, {}, 'an object', isRecord));
  }
}

/** Reads `dtype` (transformers 5) or `torch_dtype` (transformers 4); null if absent or not supported here. */
export function statedDtype(config: ConfigReader): DType | null {
  const name = config.get('dtype') ?? config.get('torch_dtype');
  const dtypes: Record<string, DType> = { float32: 'f32', float16: 'f16', bfloat16: 'bf16' };
  return typeof name === 'string' ? (entryOf(dtypes, name.replace('torch.', '')) ?? null) : null;
}
