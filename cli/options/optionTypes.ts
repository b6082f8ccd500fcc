import { InvalidArgumentError } from 'commander';

/**
 * A parser of an option's text; throws commander's InvalidArgumentError with what would be right. `choices`: all that
 * it accepts, where those are a few words; shells complete them.
 */
export type Parser<T> = ((text: string) => T) & { readonly choices?: readonly string[] };

const plainNumber = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

function number(text: string, wanted: string, accepts: (value: number) => boolean): number {
  const value = plainNumber.test(text.trim()) ? Number(text) : Number.NaN;
  if (!Number.isFinite(value) || !accepts(value)) throw new InvalidArgumentError(`Give ${wanted}.`);
  return value;
}

/** A whole number from `least` up. */
export const wholeNumber =
  (least: number): Parser<number> =>
  text =>
    number(
      text,
      `a whole number of ${least} or more`,
      value => Number.isSafeInteger(value) && value >= least,
    );

/** A number of 0 or more. */
export const notNegative: Parser<number> = text => number(text, 'a number of 0 or more', value => value >= 0);

/** A share above 0 and below 1, also as a percentage: 0.25 or 25%. */
export const share: Parser<number> = text => {
  const percent = text.trim().endsWith('%');
  const wanted = 'a share above 0 and below 1, or a percentage such as 25%';
  const scale = percent ? 100 : 1;
  return number(percent ? text.trim().slice(0, -1) : text, wanted, v => v > 0 && v < scale) / scale;
};

/** A number above 0. */
export const positive: Parser<number> = text => number(text, 'a number above 0', value => value > 0);

/** A number from 0 to 1. */
export const unitNumber: Parser<number> = text =>
  number(text, 'a number from 0 to 1', value => value >= 0 && value <= 1);

/** Layers by number, single or from first to last: 12..18 or 3,5,12..15. */
export const layerList: Parser<number[]> = text =>
  text.split(',').flatMap(part => {
    const match = /^\s*(\d{1,4})(?:\.\.(\d{1,4}))?\s*$/.exec(part);
    const [first, last] = [Number(match?.[1]), Number(match?.[2] ?? match?.[1])];
    if (!match || last < first) {
      throw new InvalidArgumentError('Give layers counted from 0, such as 12..18 or 3,5,12..15.');
    }
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });

/** Collects the values of an option that takes several, also of one word with commas, for commander. */
export const each =
  <T>(parse: Parser<T>) =>
  (text: string, before: readonly T[] = []): T[] => [...before, ...text.split(',').map(parse)];

/** A probability above 0, 1 included. */
export const probability: Parser<number> = text =>
  number(text, 'a number above 0 and at most 1', value => value > 0 && value <= 1);

const byteUnits: Readonly<Record<string, number>> = { '': 1, k: 1, m: 2, g: 3, t: 4 };

/** Bytes with a unit: 600MB (decimal), 2GiB (binary), 1.5 GB, 1000000. */
export const byteCount: Parser<number> = text => {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?$/i.exec(text.trim());
  const [, digits, letter = '', binary] = match ?? [];
  const bytes = Math.floor(
    Number(digits) * (binary ? 1024 : 1000) ** (letter ? byteUnits[letter.toLowerCase()]! : 0),
  );
  if (!match || (binary && !letter) || !Number.isSafeInteger(bytes) || bytes < 1) {
    throw new InvalidArgumentError('Give bytes with a unit, such as 600MB or 2GiB.');
  }
  return bytes;
};

/** One of a few words. */
export const oneOf = <T extends string>(...choices: readonly T[]): Parser<T> =>
  Object.assign(
    (text: string) => {
      if (!(choices as readonly string[]).includes(text)) {
        throw new InvalidArgumentError(`Give one of: ${choices.join(', ')}.`);
      }
      return text as T;
    },
    { choices },
  );

const numberTypes = ['f32', 'f16', 'bf16'] as const;

/** A number type of weights; says what to do for types of blocks. */
export const weightDtype: Parser<(typeof numberTypes)[number]> = Object.assign(
  (text: string) => {
    if (!/^i?q\d/i.test(text)) return oneOf(...numberTypes)(text);
    throw new InvalidArgumentError(
      `Give one of: ${numberTypes.join(', ')}; then rm-engine convert OUT OUT-q8_0.gguf --type q8_0 makes blocks.`,
    );
  },
  { choices: numberTypes },
);
