import { InvalidArgumentError } from 'commander';
import * as types from '../../replaceme/options/valueTypes.js';

/**
 * A parser of an option's text; throws commander's InvalidArgumentError that says what to give. `choices`: all values,
 * where those are a few words; shells complete them.
 */
export type Parser<T> = ((text: string) => T) & { readonly choices?: readonly string[] };

/** The parser for values of a type. */
export const parserOf = <T>(type: types.ValueType<T>): Parser<T> =>
  Object.assign((text: string) => {
    const value = types.readValue(type, text);
    if (value === undefined) throw new InvalidArgumentError(`Give ${type.needs}.`);
    return value;
  }, type.choices && { choices: type.choices });

/** Collects the values of an option that takes several, also of one word with commas, for commander. */
export const each =
  <T>(parse: Parser<T>) =>
  (text: string, before: readonly T[] = []): T[] => [...before, ...text.split(',').map(parse)];

/** One of a few words. */
export const oneOf = <const T extends string>(...choices: readonly T[]): Parser<T> =>
  parserOf(types.oneOf(...choices));

/** A whole number from `least` up. */
export const wholeNumber = (least: number): Parser<number> => parserOf(types.wholeNumber(least));

export const notNegative: Parser<number> = parserOf(types.notNegative);
export const positive: Parser<number> = parserOf(types.positive);
export const probability: Parser<number> = parserOf(types.probability);
export const byteCount: Parser<number> = parserOf(types.byteCount);
