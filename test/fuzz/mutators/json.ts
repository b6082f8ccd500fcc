import type { Random } from '../random.js';
import type { Mutator } from '../target.js';
import { mutateBytes } from './bytes.js';
import { oddNumbers, oddTexts } from './text.js';

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A string that stands for text which JSON.stringify cannot write: NaN, deep nesting. */
const rawMark = (text: string): string => `\ue001${Buffer.from(text).toString('hex')}\ue001`;
/** A mark at the end of a key: an object can have the key twice in the text. */
const TWICE = '\ue002';

function write(value: Json): string {
  return (JSON.stringify(value) ?? 'null')
    .replaceAll(/"\ue001([0-9a-f]*)\ue001"/g, (_, hex: string) => Buffer.from(hex, 'hex').toString())
    .replaceAll(TWICE, '');
}

const nested = (depth: number, random: Random): string => {
  const [open, close] = random.pick([['[', ']'] as const, ['{"a":', '}'] as const]);
  return `${open.repeat(depth)}0${close.repeat(depth)}`;
};

const oddValue = (random: Random): Json =>
  random.pick<() => Json>([
    () => random.pick([null, true, false]),
    () => random.pick(oddNumbers),
    () => random.pick(oddNumbers) * random.pick([1, -1]),
    () => random.pick(oddTexts),
    () => random.pick<Json>([[], {}, [[]], [null], [{}], { '': null }]),
    () =>
      rawMark(
        random.pick(['NaN', 'Infinity', '-Infinity', '1e400', '-1e400', '1.0', '01', '1e-400', 'undefined']),
      ),
    () => rawMark(nested(random.pick([5, 100, 100, 20_000]), random)),
    () => new Array<Json>(random.size(13)).fill(random.pick<Json>([0, '', null, []])),
  ])();

/** A place in a tree: the object or list, and the key within. */
interface Place {
  readonly parent: Json[] | Record<string, Json>;
  readonly key: string;
}

/** Most places to choose among, so that a large list stays quick. */
const MOST_PLACES = 5000;

function places(root: Json): Place[] {
  const found: Place[] = [];
  const visit = (value: Json): void => {
    if (typeof value !== 'object' || value === null) return;
    for (const [key, inner] of Object.entries(value)) {
      if (found.length >= MOST_PLACES) return;
      found.push({ parent: value, key });
      visit(inner);
    }
  };
  visit(root);
  return found;
}

const at = ({ parent, key }: Place): Json => (parent as Record<string, Json>)[key]!;

/** Sets a field, `__proto__` too, which an assignment would take for the prototype. */
const put = (parent: object, key: string, value: Json): void => {
  if (Array.isArray(parent) && !/^\d+$/.test(key)) parent.push(value);
  else Object.defineProperty(parent, key, { value, enumerable: true, configurable: true, writable: true });
};

const drop = ({ parent, key }: Place): void => {
  if (Array.isArray(parent)) parent.splice(Number(key), 1);
  else delete parent[key];
};

function near(value: Json, random: Random): Json {
  if (typeof value === 'number') {
    return random.pick([value + 1, value - 1, -value, value * 2, value * 1e6, value + 0.5, `${value}`]);
  }
  if (typeof value === 'string') {
    return random.pick<() => Json>([
      () => value.slice(0, random.below(value.length)),
      () => value + random.pick(oddTexts),
      () => value.toUpperCase(),
      () => Number(value) || 0,
      () => [value],
    ])();
  }
  if (typeof value === 'boolean') return random.pick<Json>([!value, value ? 1 : 0, `${value}`]);
  if (Array.isArray(value) && value.length > 0) {
    return random.pick<() => Json>([
      () => value.slice(0, random.below(value.length)),
      () => [...value, ...value],
      () => [...value].reverse(),
      () => new Array<Json>(random.size(12)).fill(random.pick(value)),
      () => Object.fromEntries(value.slice(0, 1000).map((item, i) => [i, item])),
    ])();
  }
  return oddValue(random);
}

type Change = (place: Place, all: readonly Place[], random: Random, words: readonly string[]) => void;

const changes: readonly Change[] = [
  ({ parent, key }, _, random) => put(parent, key, oddValue(random)),
  (place, _, random) => put(place.parent, place.key, near(at(place), random)),
  (place, _, random) => put(place.parent, place.key, near(at(place), random)),
  // A count or size, however many other fields there are.
  (place, all, random) => {
    const numbers = all.filter(other => typeof at(other) === 'number');
    const { parent, key } = numbers.length > 0 ? random.pick(numbers) : place;
    put(parent, key, random.pick(oddNumbers));
  },
  place => drop(place),
  // A field under another name: an odd one, or that of another field.
  (place, all, random, words) => {
    const value = at(place);
    if (random.chance(0.7)) drop(place);
    const names = [oddTexts, all.map(({ key }) => key), words].filter(list => list.length > 0);
    put(place.parent, random.pick(random.pick(names)), value);
  },
  // The same field twice.
  ({ parent, key }, _, random) => {
    if (!Array.isArray(parent)) put(parent, key + TWICE, oddValue(random));
  },
  (place, all, random) => put(place.parent, place.key, structuredClone(at(random.pick(all)))),
  (place, all, random) => {
    const other = random.pick(all);
    const [a, b] = [structuredClone(at(place)), structuredClone(at(other))];
    put(place.parent, place.key, b);
    put(other.parent, other.key, a);
  },
  (place, _, random) => put(place.parent, place.key, random.chance(0.5) ? [at(place)] : { a: at(place) }),
  (place, _, random, words) => {
    if (words.length > 0) put(place.parent, place.key, random.pick(words));
  },
];

/** Changes a parsed value at one place, in place. */
export function changeJson(root: Json, random: Random, words: readonly string[] = []): Json {
  const all = places(root);
  if (all.length === 0 || random.chance(0.02)) return oddValue(random);
  random.pick(changes)(random.pick(all), all, random, words);
  return root;
}

/**
 * Changes a JSON text at one place: values of other types, huge numbers, NaN, deep nesting, names of prototypes, fields
 * that are gone, doubled or under another name; now and then single bytes. `words` are values and names that mean something.
 */
export const jsonMutator =
  (words: readonly string[] = []): Mutator =>
  (input, random) => {
    if (random.chance(0.1)) return mutateBytes(input, random);
    const root = parsed(input);
    if (root === undefined) return mutateBytes(input, random);
    return new TextEncoder().encode(write(changeJson(root, random, words)));
  };

/** The value of a JSON text; undefined where it is none, or too deep to change. */
function parsed(input: Uint8Array): Json | undefined {
  const text = new TextDecoder().decode(input);
  if (/[[{]{200}/.test(text.replaceAll(/"a":/g, ''))) return undefined;
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

/** The text of a changed value. */
export const jsonText = write;
