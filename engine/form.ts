/**
 * Checks of values that come from a file: a `Form` describes a type and finds the first place where a value differs from
 * it. Fields that a form does not name are ignored; inherited names such as "constructor" are no fields.
 */
export interface Form<T> {
  /** What is wrong, with its place ("sums[3].rows is -1, not a whole number from 1"); undefined where nothing is. */
  (value: unknown, place: string): string | undefined;
  /** The type of such values; never set. */
  readonly type?: T;
}

/** The type of a form's values. */
export type Formed<F> = F extends Form<infer T> ? T : never;

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The entry of a table of ours under a name that comes from a file; undefined for inherited names as well. */
export const entryOf = <T>(table: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.hasOwn(table, name) ? table[name] : undefined;

/** A value in a message, in at most 60 characters. */
function shown(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (isRecord(value)) return 'an object';
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

const unlike = (value: unknown, place: string, what: string): string =>
  `${place || 'it'} is ${value === undefined ? 'missing' : shown(value)}, not ${what}`;

const when =
  <T>(is: (value: unknown) => boolean, what: string): Form<T> =>
  (value, place) =>
    is(value) ? undefined : unlike(value, place, what);

const range = (least: number, most: number): string =>
  `${least > -Number.MAX_VALUE ? ` from ${least}` : ''}${most < Number.MAX_SAFE_INTEGER ? ` up to ${most}` : ''}`;

/** A finite number. */
export const finite = (least = -Number.MAX_VALUE, most = Number.MAX_VALUE): Form<number> =>
  when(
    value => Number.isFinite(value) && (value as number) >= least && (value as number) <= most,
    `a finite number${range(least, most)}`,
  );

/** A whole number. */
export const whole = (least = 0, most = Number.MAX_SAFE_INTEGER): Form<number> =>
  when(
    value => Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most,
    `a whole number${range(least, most)}`,
  );

export const text: Form<string> = when(value => typeof value === 'string', 'a text');
export const flag: Form<boolean> = when(value => typeof value === 'boolean', 'true or false');
export const anything: Form<unknown> = when(value => value !== undefined, 'a value');

/** A text of a pattern, which `what` says in words. */
export const textLike = (pattern: RegExp, what: string): Form<string> =>
  when(value => typeof value === 'string' && pattern.test(value), what);

/** SHA-256 in hexadecimal digits. */
export const hashText = textLike(/^[0-9a-f]{64}$/, 'a SHA-256');

/** One of these values. */
export const oneOf = <const T extends string | number | boolean | null>(...values: readonly T[]): Form<T> =>
  when(
    value => values.includes(value as T),
    `${values.length > 1 ? 'one of ' : ''}${values.map(value => JSON.stringify(value)).join(', ')}`,
  );

/** The form, or null. */
export const orNull =
  <T>(form: Form<T>): Form<T | null> =>
  (value, place) =>
    value === null ? undefined : form(value, place);

/** The form, or an absent field. */
export const optional =
  <T>(form: Form<T>): Form<T | undefined> =>
  (value, place) =>
    value === undefined ? undefined : form(value, place);

/** `form(value, place())`, with a place that is written for problems only: kernels are checked at every dispatch. */
export const problemAt = (form: Form<unknown>, value: unknown, place: () => string): string | undefined =>
  form(value, '') === undefined ? undefined : form(value, place());

/** A list of so many items. */
export const listOf =
  <T>(item: Form<T>, least = 0, most = Number.MAX_SAFE_INTEGER): Form<readonly T[]> =>
  (value, place) => {
    if (!Array.isArray(value)) return unlike(value, place, 'a list');
    if (value.length < least || value.length > most) {
      return unlike(value, place, least === most ? `of ${least}` : `of${range(least, most)} items`);
    }
    for (let at = 0; at < value.length; at++) {
      const problem = problemAt(item, value[at], () => `${place}[${at}]`);
      if (problem) return problem;
    }
    return undefined;
  };

/** An object with any names, all of whose values have one form. Assigning to __proto__ would not add a name. */
export const tableOf =
  <T>(item: Form<T>, name: Form<string> = text): Form<Readonly<Record<string, T>>> =>
  (value, place) => {
    if (!isRecord(value)) return unlike(value, place, 'an object');
    for (const [key, element] of Object.entries(value)) {
      const at = place ? `${place}.${key}` : key;
      if (key === '__proto__') return `${at} is no name`;
      const problem = name(key, `the name ${JSON.stringify(key)} in ${place || 'it'}`) ?? item(element, at);
      if (problem) return problem;
    }
    return undefined;
  };

/** An object with these fields. */
export const record =
  <F extends Readonly<Record<string, Form<unknown>>>>(
    fields: F,
  ): Form<{ readonly [K in keyof F]: Formed<F[K]> }> =>
  (value, place) => {
    if (!isRecord(value)) return unlike(value, place, 'an object');
    for (const [key, form] of Object.entries(fields)) {
      const problem = form(entryOf(value, key), place ? `${place}.${key}` : key);
      if (problem) return problem;
    }
    return undefined;
  };

/** A value of one form that passes one more check, which returns what is wrong. */
export const also =
  <T>(form: Form<T>, check: (value: T) => string | undefined): Form<T> =>
  (value, place) => {
    const problem = form(value, place) ?? check(value as T);
    return problem;
  };

/** The value, which has the form. @param fail makes the error for what is wrong. */
export function readForm<T>(value: unknown, form: Form<T>, fail: (problem: string) => Error): T {
  const problem = form(value, '');
  if (problem) throw fail(problem);
  return value as T;
}
