import { ensure, shownKind } from '../../engine/index.js';
import type { ValueType } from './valueTypes.js';

/** What is said of a setting where it is declared. Help texts have no full stop; the default is added to them. */
export interface Description<T> {
  readonly help: string;
  /** Facts that have no room in a line of help; they are in docs/options.md. Sentences. */
  readonly details?: string;
  /** The value where none is given. */
  readonly default?: T;
  /** The default in words, where it is no fixed value: "by the device". */
  readonly otherwise?: string;
  /** Its option, where that is not the library's name in kebab case; false: the command line has none. */
  readonly flag?: string | false;
  /** What follows the option in help: "count" for `<count>`. A switch has none. */
  readonly takes?: string;
  /** No run goes without it. */
  readonly required?: true;
  /** The method that it belongs to. */
  readonly of?: string;
  /** It concerns one run alone, so that a report's "repeat" leaves it out. */
  readonly ofTheRun?: true;
}

/** A setting: its values, and all that is said of it. */
export interface Setting<T = unknown> extends Description<T> {
  readonly type: ValueType<T>;
}

/** A setting in its table. */
export interface DeclaredSetting<T = unknown> extends Setting<T> {
  /** The library's name, with the names of the objects around it: "cosine.epochs". */
  readonly name: string;
  /** The same as a path: ["cosine", "epochs"]. */
  readonly path: readonly string[];
  /** The heading in help. */
  readonly group: string;
  /** Its option without dashes; undefined where the command line has none. */
  readonly option: string | undefined;
}

type Settings = Readonly<Record<string, Setting>>;

/** Settings by name, each complete. */
export type Declared<E extends Settings> = {
  readonly [K in keyof E]: E[K] & Omit<DeclaredSetting, keyof Setting>;
};

/** The options that a table of settings stands for. */
export type Values<E> = {
  -readonly [K in keyof E]?: E[K] extends { readonly type: ValueType<infer T> } ? T : never;
};

/** Declares a setting of a type. */
export const setting = <T, const D extends Description<T>>(
  type: ValueType<T>,
  description: D,
): D & { readonly type: ValueType<T> } => ({ ...description, type });

const kebabCase = (name: string): string => name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`);

/** A table of settings under one heading; `within` is the path of the object that has them. */
export const declare = <const E extends Settings>(
  group: string,
  settings: E,
  within: readonly string[] = [],
): Declared<E> =>
  Object.fromEntries(
    Object.entries(settings).map(([key, { flag = kebabCase(key), ...rest }]) => {
      const path = [...within, key];
      return [key, { ...rest, group, path, name: path.join('.'), option: flag === false ? undefined : flag }];
    }),
  ) as unknown as Declared<E>;

/** The settings of some tables in one list. */
export const listed = (...tables: readonly Readonly<Record<string, unknown>>[]): DeclaredSetting[] =>
  tables.flatMap(table => Object.values(table) as DeclaredSetting[]);

/** The value of a setting among options. */
export const settingValue = ({ path }: DeclaredSetting, options: object): unknown =>
  path.reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], options);

const shown = (value: unknown): string => {
  if (typeof value === 'string') return `'${value}'`;
  if (!Array.isArray(value)) return shownKind(value);
  return `[${value.map(each => (typeof each === 'string' ? JSON.stringify(each) : shown(each)))}]`;
};

/** @throws RmError INVALID_ARGUMENT naming the first setting whose value is not of its type. */
export function checkValues(settings: readonly DeclaredSetting[], options: object): void {
  for (const setting of settings) {
    const value = settingValue(setting, options);
    ensure(
      value === undefined || setting.type.accepts(value),
      `\`${setting.name}\` is ${shown(value)}`,
      `Give ${setting.type.needs}.`,
    );
  }
}
