/**
 * Calls public functions with arguments that do not fit. A recipe is a call that fits; each of its arguments, and each field
 * of those that are objects or lists, is then replaced, left out or joined by a field that is not known. What is of another
 * type must be refused with an RmError; a value of the right type may be taken, and then nothing may break.
 */
import * as assert from 'uvu/assert';
import { RmError, seededRandom, Tensor } from '../../engine/index.js';

type Callable = (...args: never[]) => unknown;

/** A call that fits. */
export interface Recipe {
  readonly call: Callable;
  /** Makes the arguments; called anew for each call. */
  readonly args: () => readonly unknown[];
  /** It takes long or changes what others use: only calls that must be refused are tried. */
  readonly refusedOnly?: boolean;
  /** Places where null says something. */
  readonly nullable?: readonly string[];
  /** Labels of tensors of `never` that it takes all the same. */
  readonly harmless?: readonly string[];
  /** Places that take several kinds of values: { '0.declarations': ['function'] }. */
  readonly takes?: Readonly<Record<string, readonly Kind[]>>;
}

/** What was tried and what went wrong. */
export interface Outcome {
  readonly calls: number;
  /** What went wrong, by function: the first of each. */
  readonly faults: ReadonlyMap<string, string>;
}

type Kind = 'number' | 'text' | 'flag' | 'function' | 'list' | 'settings' | 'object';

function kindOf(value: unknown): Kind | undefined {
  if (typeof value === 'number') return 'number';
  if (typeof value === 'string') return 'text';
  if (typeof value === 'boolean') return 'flag';
  if (typeof value === 'function') return 'function';
  if (Array.isArray(value)) return 'list';
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.getPrototypeOf(value) === Object.prototype ? 'settings' : 'object';
}

/** Values of each kind, odd ones among them. */
const samples: Readonly<Record<Kind, readonly unknown[]>> = {
  number: [-1, 0, 2.5, Number.NaN, 2 ** 40],
  text: ['', 'x'],
  flag: [true, false],
  function: [() => {}],
  list: [[], [1], ['x'], [null]],
  settings: [{}],
  object: [new WeakMap()],
};
/** What no argument is. */
const neither = [null, Symbol('x'), 10n];

/** Where in the arguments: [2, 'scale'] is the field `scale` of the third. */
type Path = readonly (string | number)[];

/** Fields of objects that are values rather than settings: they may have more fields, and are replaced as a whole. */
const dataFields = [
  'hi',
  'inverses',
  'norm',
  'renderChat',
  'context',
  'text',
  'bytes',
  'tokenizer',
  'count',
  'calibration',
  'beta',
  'depths',
  'inputNorm',
  'tokens',
];
const isData = (value: object): boolean =>
  dataFields.some(name => name in value) || typeof (value as { variant?: unknown }).variant === 'string';

function* placesOf(value: unknown, path: Path = []): Iterable<Path> {
  if (path.length > 0) yield path;
  const kind = kindOf(value);
  if ((kind === 'settings' && !isData(value as object)) || path.length === 0) {
    for (const [name, each] of Object.entries(value as object))
      yield* placesOf(each, [...path, path.length ? name : Number(name)]);
  } else if (kind === 'list' && (value as unknown[]).length > 0) {
    yield* placesOf((value as unknown[])[0], [...path, 0]);
  }
}

const at = (value: unknown, path: Path): unknown =>
  path.reduce((from, name) => (from as Record<string | number, unknown>)[name], value);

/** The arguments with another value in one place. */
function replaced(value: unknown, [name, ...rest]: Path, by: unknown): unknown {
  if (name === undefined) return by;
  const copy = Array.isArray(value) ? [...value] : { ...(value as object) };
  const fields = copy as Record<string | number, unknown>;
  fields[name] = replaced(fields[name], rest, by);
  return copy;
}

/** Other values for one place, and whether each must be refused. */
function* othersFor(
  value: unknown,
  sameKind: readonly unknown[],
  takes: readonly Kind[] = [],
  strict = true,
): Iterable<[other: unknown, refused: boolean]> {
  const kind = kindOf(value);
  for (const other of neither) yield [other, true];
  for (const [name, values] of Object.entries(samples)) {
    for (const other of values) yield [other, name !== kind && !takes.includes(name as Kind)];
  }
  if (value instanceof Tensor) for (const other of sameKind) yield [other, false];
  else yield [sameKind[0], !takes.includes('object')];
  if (strict && kind === 'settings' && !isData(value as object))
    yield [{ ...(value as object), misspelt: 1 }, true];
  yield [undefined, false];
}

const shown = (value: unknown): string => {
  if (value instanceof Tensor) return `'${value.label}'`;
  if (Array.isArray(value)) return `[${value.map(shown)}]`;
  if (kindOf(value) === 'settings')
    return `{${Object.entries(value as object).map(([name, each]) => `${name}: ${shown(each)}`)}}`;
  if (typeof value === 'object' && value !== null) return value.constructor.name;
  return typeof value === 'string' ? `'${value}'` : String(value);
};

/** Runs a call to its end, to the first value of what it yields, and frees what it returns. */
async function run(call: Callable, args: readonly unknown[]): Promise<void> {
  const result = await (call as (...args: readonly unknown[]) => unknown)(...args);
  if (typeof result !== 'object' || result === null || args.includes(result)) return;
  if (Symbol.asyncIterator in result) {
    const values = (result as AsyncIterable<unknown>)[Symbol.asyncIterator]();
    await values.next();
    await values.return?.();
  }
  for (const name of ['dispose', 'close'] as const) {
    const free = (result as Record<string, unknown>)[name];
    if (typeof free === 'function') await free.call(result);
  }
}

/**
 * Tries all recipes.
 *
 * @param tensors of other shapes, dtypes and devices, to take the place of tensors.
 * @param after called after each call, and says what is broken; then nothing more is tried.
 */
export async function tryWrongArguments(
  recipes: Readonly<Record<string, Recipe>>,
  tensors: readonly Tensor[],
  never: readonly Tensor[],
  {
    after,
    pairs = 0,
    seed = 1,
    strict = true,
  }: {
    after: () => Promise<string | undefined>;
    pairs?: number;
    seed?: number;
    /** Whether settings with other names must be refused. */
    strict?: boolean;
  },
): Promise<Outcome> {
  const faults = new Map<string, string>();
  const random = seededRandom(seed);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
  let calls = 0;
  const tryOne = async (name: string, call: Callable, args: readonly unknown[], refused: boolean) => {
    calls++;
    const report = (what: string) => {
      if (!faults.has(name)) faults.set(name, `${name}(${args.map(shown).join(', ')}) ${what}`);
    };
    try {
      await run(call, args);
      if (refused) report('returned');
    } catch (error) {
      if (!(error instanceof RmError)) report(`threw ${(error as Error)?.stack}`);
    }
  };
  for (const [
    name,
    { call, args, refusedOnly = false, takes = {}, harmless = [], nullable = [] },
  ] of Object.entries(recipes)) {
    const began = performance.now();
    if (!refusedOnly) {
      calls++;
      try {
        await run(call, args());
      } catch (error) {
        faults.set(name, `${name}: the recipe itself threw ${(error as Error).stack}`);
        continue;
      }
    }
    for (const path of placesOf(args())) {
      const value = at(args(), path);
      const others = [...othersFor(value, tensors, takes[path.join('.')], strict)];
      if (value instanceof Tensor)
        others.push(...never.map((tensor): [unknown, boolean] => [tensor, !harmless.includes(tensor.label)]));
      for (const [other, refused] of others) {
        if ((refusedOnly && !refused) || (other === null && nullable.includes(path.join('.')))) continue;
        await tryOne(name, call, replaced(args(), path, other) as unknown[], refused);
      }
    }
    for (let i = 0; i < pairs && !refusedOnly; i++) {
      let changed: unknown = args();
      for (let change = 0; change < 2; change++) {
        const path = pick([...placesOf(changed)]);
        changed = replaced(changed, path, pick([...othersFor(at(changed, path), tensors)])[0]);
      }
      await tryOne(name, call, changed as unknown[], false);
    }
    if (process.env.RM_FUZZ_TIMES) console.log(name, (performance.now() - began).toFixed());
    const broken = await after();
    if (broken === undefined) continue;
    faults.set(`after ${name}`, broken);
    break;
  }
  return { calls, faults };
}

/** Asserts that every export has a recipe, or a reason to have none, and every recipe an export. */
export function assertSameNames(known: readonly string[], exported: readonly string[]): void {
  assert.equal(
    exported.filter(name => !known.includes(name)),
    [],
    'every export has a recipe',
  );
  assert.equal(
    known.filter(name => !exported.includes(name)),
    [],
    'every recipe has an export',
  );
}

/** What a door exports that can be called, by name: functions, and classes with their static functions and methods. */
export function callables(door: object): string[] {
  return Object.entries(door).flatMap(([name, value]) => {
    if (typeof value !== 'function') return [];
    if (!/^class/.test(Function.prototype.toString.call(value))) return [name];
    const methods = (of: object) =>
      Object.entries(Object.getOwnPropertyDescriptors(of))
        .filter(([key, { value: method }]) => typeof method === 'function' && key !== 'constructor')
        .map(([key]) => `${name}.${key}`);
    return [name, ...methods(value), ...methods(value.prototype)];
  });
}
