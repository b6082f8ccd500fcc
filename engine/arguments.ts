import { RmError } from './errors.js';
import { type Form, isRecord, problemAt } from './form.js';
import { didYouMean } from './nearestWord.js';

/** A form for every field of a type. */
export type FormsOf<T> = { readonly [Name in keyof T]-?: Form<unknown> };

/** A number, NaN and infinities included. */
export const numeric: Form<number> = (value, place) =>
  typeof value === 'number' ? undefined : `${place} is ${shownKind(value)}, not a number`;

/** A number of 0 or more, infinity included. */
export const atLeastZero: Form<number> = (value, place) =>
  typeof value === 'number' && value >= 0
    ? undefined
    : `${place} is ${shownKind(value)}, not a number of 0 or more`;

/** A function. */
export const callable: Form<unknown> = (value, place) =>
  typeof value === 'function' ? undefined : `${place} is ${shownKind(value)}, not a function`;

/** An object of a class, which `what` names: "a tensor". */
export const instanceOf =
  // biome-ignore lint/complexity/noBannedTypes: also classes with private constructors, which no other type allows.
    <T>(kind: Function & { readonly prototype: T }, what: string): Form<T> =>
    (value, place) =>
      value instanceof kind ? undefined : `${place} is ${shownKind(value)}, not ${what}`;

/** An object that has these methods or fields, as another library's object has them. */
export const objectWith =
  (what: string, ...names: readonly string[]): Form<object> =>
  (value, place) =>
    typeof value === 'object' && value !== null && !Array.isArray(value) && names.every(name => name in value)
      ? undefined
      : `${place} is ${shownKind(value)}, not ${what}`;

/** What a value is, in words. */
export function shownKind(value: unknown): string {
  if (value === undefined) return 'missing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return value.constructor?.name ?? 'an object';
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : `a ${typeof value}`;
}

/** Whether it is an object as { } makes it, in this realm or another. */
const isPlain = (value: unknown): value is Record<string, unknown> =>
  isRecord(value) && Object.getPrototypeOf(Object.getPrototypeOf(value) ?? Object.prototype) === null;

/**
 * An object of settings: these fields, each of its form, and no others.
 *
 * @param others 'allowed' where callers hand on settings of more than this function.
 */
export const settings = <T extends object>(
  forms: FormsOf<T>,
  others: 'refused' | 'allowed' = 'refused',
): Form<T> => {
  const names = Object.keys(forms) as (keyof T & string)[];
  return (given, place) => {
    if (!isPlain(given)) return `${place} is ${shownKind(given)}, not an object of settings`;
    for (const name in given) {
      if (others === 'allowed' || Object.hasOwn(forms, name)) continue;
      return `${place} has no '${name}'. ${didYouMean(name, names)}It has ${names.join(', ')}`;
    }
    for (const name of names) {
      const problem = problemAt(forms[name], given[name], () => `${place}.${name}`);
      if (problem) return problem;
    }
    return undefined;
  };
};

/**
 * For the beginning of a public function: throws INVALID_ARGUMENT for the first argument that does not have its form.
 *
 * @param given the arguments by their names.
 */
export function checkArguments<T extends object>(
  of: string,
  given: T,
  forms: FormsOf<T>,
  fix?: string,
): void {
  for (const name in forms) {
    const problem = forms[name](given[name], name);
    if (problem)
      throw new RmError('INVALID_ARGUMENT', `${of}: ${problem}`, fix ?? `See the declaration of ${of}.`);
  }
}
