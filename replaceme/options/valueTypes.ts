import { entryOf } from '../../engine/index.js';
import { isDate, isHubName, type WeightDtype } from '../../model/index.js';

/** The values that a setting takes: in words, as a check, as text and as JSON Schema. */
export interface ValueType<T> {
  /** What to give: "a number of 0 or more". */
  readonly needs: string;
  /** Whether a value of a call is of the type. */
  accepts(value: unknown): boolean;
  /** The value that a text stands for; undefined where it stands for none. */
  read(text: string): T | undefined;
  /** The text for a value; default: as String() has it, elements with commas between. */
  write?(value: T): string;
  /** All values, or all first words of them, where those are a few. */
  readonly choices?: readonly string[];
  /** Of a list: the type of its elements. */
  readonly item?: ValueType<unknown>;
  /** A value as JSON Schema describes it. */
  readonly schema: Readonly<Record<string, unknown>>;
}

/** The value that a text stands for, where the type accepts it. */
export function readValue<T>(type: ValueType<T>, text: string): T | undefined {
  const value = type.read(text);
  return value !== undefined && type.accepts(value) ? value : undefined;
}

/** A value as text, which `readValue` reads back. */
export const writeValue = <T>(type: ValueType<T>, value: T): string =>
  type.write?.(value) ?? (Array.isArray(value) ? value.join(',') : String(value));

/** 1e-4, 12, +.5; neither hexadecimal nor empty, which Number() would take. */
const plainNumber = String.raw`[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?`;

/** A number times a factor that the unit after it stands for. */
function readWithUnit(text: string, units: RegExp, factor: (unit: string) => number): number | undefined {
  const [, digits, unit = ''] =
    new RegExp(`^(${plainNumber})\\s*(${units.source})?$`, units.flags).exec(text.trim()) ?? [];
  if (digits === undefined) return undefined;
  // 4.1 * 1000 is 4099.999999999999.
  return unit === '' ? Number(digits) : Number((Number(digits) * factor(unit)).toPrecision(15));
}

const countUnits: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  K: 1e3,
  M: 1e6,
  B: 1e9,
  G: 1e9,
  T: 1e12,
};

/** A number, also with a unit: 4k is 4000, 1.5M, 1B, 1e5. */
const readNumber = (text: string): number | undefined =>
  readWithUnit(text, /[kKMBGT]/, unit => countUnits[unit]!);

const number = (needs: string, accepts: (value: number) => boolean): ValueType<number> => ({
  needs,
  accepts: value => typeof value === 'number' && Number.isFinite(value) && accepts(value),
  read: readNumber,
  schema: { type: 'number' },
});

/** A whole number from `least` to `most`. */
export const wholeNumber = (least: number, most = Number.MAX_SAFE_INTEGER): ValueType<number> =>
  number(
    most < Number.MAX_SAFE_INTEGER
      ? `a whole number from ${least} to ${most}`
      : `a whole number of ${least} or more`,
    value => Number.isSafeInteger(value) && value >= least && value <= most,
  );

/** Any whole number. */
export const integer: ValueType<number> = number('a whole number', Number.isInteger);

/** A number of `least` or more. */
export const atLeast = (least: number): ValueType<number> =>
  number(`a number of ${least} or more`, value => value >= least);

/** A number of 0 or more. */
export const notNegative: ValueType<number> = atLeast(0);

/** A number above 0. */
export const positive: ValueType<number> = number('a number above 0', value => value > 0);

/** A number from 0 to 1. */
export const unitNumber: ValueType<number> = number(
  'a number from 0 to 1',
  value => value >= 0 && value <= 1,
);

/** A probability above 0, 1 included. */
export const probability: ValueType<number> = number(
  'a number above 0 and at most 1',
  value => value > 0 && value <= 1,
);

/** A share above 0 and below 1; as text also a percentage: 0.25 or 25%. */
export const share: ValueType<number> = {
  ...number('a share above 0 and below 1, or a percentage such as 25%', value => value > 0 && value < 1),
  read: text => {
    const percent = /^(.*)%$/.exec(text.trim())?.[1];
    const value = readNumber(percent ?? text);
    return value !== undefined && percent !== undefined ? value / 100 : value;
  },
};

const byteUnits = ['', 'k', 'm', 'g', 't'];

/** Bytes; as text with a unit: 600MB (decimal), 2GiB (binary), 1.5 GB, 1000000. */
export const byteCount: ValueType<number> = {
  ...number(
    'bytes with a unit, such as 600MB or 2GiB',
    value => value >= 1 && value <= Number.MAX_SAFE_INTEGER,
  ),
  read: text => {
    const bytes = readWithUnit(text, /[kmgt]i?b?|b/i, unit => {
      const [letter, binary] = unit.toLowerCase().replace('b', '');
      return (binary ? 1024 : 1000) ** byteUnits.indexOf(letter ?? '');
    });
    return bytes === undefined ? undefined : Math.floor(bytes);
  },
  write: bytes => (bytes % 1e9 === 0 ? `${bytes / 1e9}GB` : `${bytes}`),
};

/** A number of parameters; as text with a unit: 1B, 110M, 1.5 B, 500000. */
export const parameterCount: ValueType<number> = {
  ...number(
    'a number of parameters, such as 1B or 110M',
    value => value >= 1 && value <= Number.MAX_SAFE_INTEGER,
  ),
  read: word => {
    const [, digits, letter] = /^(\d+(?:\.\d+)?)\s*([kmb]?)$/i.exec(word.trim()) ?? [];
    if (digits === undefined) return undefined;
    return Math.floor(Number(digits) * 1000 ** ['', 'k', 'm', 'b'].indexOf(letter!.toLowerCase()));
  },
};

/** Any text. */
export const text: ValueType<string> = {
  needs: 'a text',
  accepts: value => typeof value === 'string',
  read: word => word,
  schema: { type: 'string' },
};

/** A date, also with its time. */
export const date: ValueType<string> = {
  ...text,
  needs: 'a date such as 2024-07-26, or with its time 2024-07-26T15:00',
  accepts: value => typeof value === 'string' && isDate(value),
};

/** A model on the Hugging Face hub. */
export const hubName: ValueType<string> = {
  ...text,
  needs: 'a name on the Hugging Face hub: org/name',
  accepts: isHubName,
};

/** true or false; on the command line an option without a value. */
export const onOff: ValueType<boolean> = {
  needs: 'one of: true, false',
  accepts: value => typeof value === 'boolean',
  read: word => entryOf({ true: true, false: false }, word),
  schema: { type: 'boolean' },
};

/** One of a few words or numbers. */
export const oneOf = <const T extends string | number>(...values: readonly T[]): ValueType<T> => ({
  needs: `one of: ${values.join(', ')}`,
  accepts: value => values.includes(value as T),
  read: word => values.find(value => `${value}` === word),
  choices: values.map(String),
  schema: { type: typeof values[0], enum: values },
});

/** A list; on the command line several words after the option. */
export const listOf = <T>(item: ValueType<T>): ValueType<readonly T[]> => ({
  needs: `a list, each ${item.needs}`,
  accepts: value => Array.isArray(value) && value.every(element => item.accepts(element)),
  // A path may have a comma.
  read: word => {
    const values = (item === text ? [word] : word.split(',')).map(part => readValue(item, part));
    return values.includes(undefined) ? undefined : (values as T[]);
  },
  item,
  schema: { type: 'array', items: item.schema },
});

/** Layers; as text by number, single or from first to last: 12..18 or 3,5,12..15. */
export const layerList: ValueType<readonly number[]> = {
  needs: 'layers counted from 0, such as 12..18 or 3,5,12..15',
  accepts: value => Array.isArray(value),
  read: word => {
    const parts = word.split(',').map(part => {
      const match = /^\s*(\d{1,4})(?:\.\.(\d{1,4}))?\s*$/.exec(part);
      const [first, last] = [Number(match?.[1]), Number(match?.[2] ?? match?.[1])];
      return match && last >= first ? Array.from({ length: last - first + 1 }, (_, i) => first + i) : [];
    });
    return parts.every(part => part.length > 0) ? parts.flat() : undefined;
  },
  schema: { type: 'array', items: { type: 'number' } },
};

/** What others call the number types: PyTorch, numpy, JAX. */
const typeNames: Readonly<Record<string, string>> = {
  ...{ float32: 'f32', fp32: 'f32', float: 'f32' },
  ...{ float16: 'f16', fp16: 'f16', half: 'f16' },
  ...{ bfloat16: 'bf16' },
};

/** Number types, under the names of PyTorch too: bfloat16 is bf16, torch.float16 is f16. */
export const numberType = <const T extends string>(...types: readonly T[]): ValueType<T> => {
  const names = oneOf(...types);
  return {
    ...names,
    read: word => {
      const name = word.toLowerCase().replace(/^torch\./, '');
      return names.read(entryOf(typeNames, name) ?? name);
    },
  };
};

/** A number type of weights. */
export const weightDtype: ValueType<WeightDtype> = {
  ...numberType('f32', 'f16', 'bf16'),
  needs: 'one of: f32, f16, bf16; rm-engine convert makes blocks such as q8_0 of the result',
};
