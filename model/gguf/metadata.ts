import { RmError } from '../../engine/index.js';
import type { GgufArray, GgufValue } from './values.js';

/** Typed access to a file's metadata; every error names the file and the key. */
export class GgufMetadata {
  constructor(
    private readonly entries: ReadonlyMap<string, GgufValue>,
    readonly path: string,
  ) {}

  /** Creates a CONFIG_INVALID about one key. */
  invalid(key: string, problem: string): RmError {
    return new RmError(
      'CONFIG_INVALID',
      `${this.path}: metadata "${key}" ${problem}`,
      'Convert the model again with a recent llama.cpp, or download it again.',
    );
  }

  get(key: string): GgufValue | undefined {
    return this.entries.get(key);
  }

  has(key: string): boolean {
    return this.entries.has(key);
  }

  text(key: string): string | undefined {
    const entry = this.entries.get(key);
    if (entry === undefined || entry.type === 'string') return entry?.value;
    throw this.invalid(key, `is of the type ${entry.type}; it should be a string`);
  }

  flag(key: string): boolean | undefined {
    const entry = this.entries.get(key);
    if (entry === undefined || entry.type === 'bool') return entry?.value;
    throw this.invalid(key, `is of the type ${entry.type}; it should be true or false`);
  }

  number(key: string): number | undefined {
    const entry = this.entries.get(key);
    if (entry === undefined) return undefined;
    if (typeof entry.value === 'number' && Number.isFinite(entry.value)) return entry.value;
    throw this.invalid(
      key,
      `is ${entry.type === 'array' ? 'a list' : String(entry.value)}; it should be a number`,
    );
  }

  /** Reads a whole number of at least `least`. */
  count(key: string, least = 1): number | undefined {
    const value = this.number(key);
    if (value === undefined || (Number.isSafeInteger(value) && value >= least)) return value;
    throw this.invalid(key, `is ${value}; it should be a whole number of at least ${least}`);
  }

  /**
   * Reads a number that may be stored per layer. Rejects layers that differ, unless some have 0 where `zeros` may.
   */
  uniformCount(key: string, zeros = false): number | undefined {
    if (this.get(key)?.type !== 'array') return this.count(key);
    const all = this.list(key, undefined, 'number') as number[];
    const values = zeros ? all.filter(value => value !== 0) : all;
    if (zeros && values.length === 0) return undefined;
    const [first] = values;
    if (first !== undefined && Number.isSafeInteger(first) && first >= 1 && values.every(v => v === first)) {
      return first;
    }
    throw new RmError(
      'UNSUPPORTED_FAMILY',
      `${this.path}: metadata "${key}" differs from layer to layer, which is not supported`,
      'Choose a model whose layers all have one shape.',
    );
  }

  /** Reads a list of values of one kind; checks that it has `length` elements unless that is undefined. */
  list(key: string, length: number | undefined, kind: 'string' | 'number'): readonly unknown[] | undefined {
    const entry = this.entries.get(key);
    if (entry === undefined) return undefined;
    if (entry.type !== 'array') throw this.invalid(key, `is of the type ${entry.type}; it should be a list`);
    const array: GgufArray = entry.value;
    const fits = kind === 'string' ? array.of === 'string' : !['string', 'bool', 'array'].includes(array.of);
    if (!fits) throw this.invalid(key, `is a list of ${array.of}; it should be a list of ${kind}s`);
    if (length !== undefined && array.length !== length) {
      throw this.invalid(key, `has ${array.length} elements; it should have ${length}`);
    }
    return array.values();
  }

  /** Reads a list of `length` flags, which may be stored as numbers. */
  flags(key: string, length: number): boolean[] {
    const entry = this.entries.get(key);
    const array = entry?.type === 'array' ? entry.value : undefined;
    if (array?.length !== length || array.of === 'string' || array.of === 'array') {
      throw this.invalid(key, `should be a list of ${length} flags`);
    }
    return array.values().map(Boolean);
  }
}
