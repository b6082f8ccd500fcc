import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';
import { pythonLiteral } from './pythonLiteral.js';
import {
  capitalize,
  codePoints,
  find,
  leftStrip,
  pythonString,
  regexReplace,
  rightStrip,
} from './pythonText.js';

/**
 * Evaluates Jinja like lm-eval. @huggingface/jinja is made for chat templates: it lacks filters and Python methods that task
 * files use, prints nothing for a missing value, and prints True as "true". Rewriting the parsed template fixes this: those
 * filters and methods become calls of the functions below, and printed values go through `print`.
 */

type Node = { type: string } & Record<string, unknown>;
type Function = (...args: never[]) => unknown;

/** Names of the functions that rewritten templates call; the space keeps them apart from a template's own names. */
const own = (kind: string, name: string): string => `${kind} ${name}`;

const asText = (value: unknown, what: string): string => {
  if (typeof value === 'string') return value;
  throw new Error(`${what} needs a text, not ${JSON.stringify(value) ?? 'nothing'}`);
};

const position = (at: number, what: unknown): number => {
  if (at < 0) throw new Error(`index: ${JSON.stringify(what)} is not there`);
  return at;
};

const methods: Readonly<Record<string, Function>> = {
  index: (of: unknown, what: unknown) =>
    position(Array.isArray(of) ? of.indexOf(what) : find(asText(of, 'index'), asText(what, 'index')), what),
  find: (of: unknown, what: unknown) => find(asText(of, 'find'), asText(what, 'find')),
  count: (of: unknown, what: unknown) =>
    Array.isArray(of)
      ? of.filter(item => item === what).length
      : asText(of, 'count').split(asText(what, 'count')).length - 1,
  capitalize: (text: unknown) => capitalize(asText(text, 'capitalize')),
  strip: (text: unknown, characters?: string) =>
    leftStrip(rightStrip(asText(text, 'strip'), characters), characters),
  lstrip: (text: unknown, characters?: string) => leftStrip(asText(text, 'lstrip'), characters),
  rstrip: (text: unknown, characters?: string) => rightStrip(asText(text, 'rstrip'), characters),
  join: (separator: unknown, items: unknown) =>
    (items as unknown[]).map(item => asText(item, 'join')).join(asText(separator, 'join')),
  isdigit: (text: unknown) => /^\p{Nd}+$/u.test(asText(text, 'isdigit')),
};

const filters: Readonly<Record<string, Function>> = {
  regex_replace: (text: unknown, pattern: string, replacement: string, count?: number) =>
    regexReplace(asText(text, 'regex_replace'), pattern, replacement, count ?? 0),
  capitalize: (text: unknown) => capitalize(pythonString(text)),
  trim: (text: unknown) => leftStrip(rightStrip(pythonString(text))),
  string: (value: unknown) => print(value),
  length: (of: unknown) =>
    Array.isArray(of)
      ? of.length
      : typeof of === 'string'
        ? codePoints(of)
        : Object.keys(of as object).length,
};

/** Filters that `map` applies to every item. */
const itemFilters: Readonly<Record<string, Function>> = {
  ...filters,
  replace: (text: unknown, from: string, to: string) => asText(text, 'replace').replaceAll(from, () => to),
  lower: (text: unknown) => asText(text, 'lower').toLowerCase(),
  upper: (text: unknown) => asText(text, 'upper').toUpperCase(),
  int: (text: unknown) => Number.parseInt(String(text), 10) || 0,
};

function print(value: unknown): string {
  if (value === undefined) throw new Error('the value to print is missing');
  if (typeof value === 'object' && value !== null) throw new Error('a list or an object cannot be printed');
  return pythonString(value);
}

const functions: Readonly<Record<string, Function>> = {
  regex_replace: filters.regex_replace!,
  literal_eval: (text: unknown) => pythonLiteral(asText(text, 'literal_eval')),
  range: (first: number, end?: number) => {
    const [from, to] = end == null ? [0, first] : [first, end];
    return Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
  },
  ...Object.fromEntries(Object.entries(methods).map(([name, f]) => [own('method', name), f])),
  ...Object.fromEntries(Object.entries(filters).map(([name, f]) => [own('filter', name), f])),
  ...Object.fromEntries(
    Object.entries(itemFilters).map(([name, f]) => [
      own('map', name),
      (items: unknown[], ...args: never[]) => items.map(item => f(item as never, ...args)),
    ]),
  ),
  [own('print', '')]: print,
};

/** A value in the library's wrapper. */
interface Wrapped {
  readonly type: string;
  value: unknown;
}

function unwrapped({ type, value }: Wrapped): unknown {
  if (type === 'NullValue') return null;
  if (Array.isArray(value)) return value.map(unwrapped);
  if (!(value instanceof Map)) return value;
  return Object.fromEntries([...value].map(([key, item]) => [key, unwrapped(item as Wrapped)]));
}

/** The part of the library's class used here. Its own declarations import without file endings, which NodeNext cannot resolve. */
const Scope = Environment as unknown as new () => {
  readonly variables: Map<string, Wrapped>;
  set(name: string, value: unknown): Wrapped;
};

const call = (name: string, ...args: unknown[]): Node => ({
  type: 'CallExpression',
  callee: { type: 'Identifier', value: name },
  args,
});

const statements = new Set([
  'If',
  'For',
  'Break',
  'Continue',
  'Set',
  'Macro',
  'Comment',
  'FilterStatement',
  'CallStatement',
]);
const isNode = (value: unknown): value is Node =>
  typeof value === 'object' && value !== null && typeof (value as Node).type === 'string';
const named = (node: unknown): string | undefined =>
  isNode(node) && node.type === 'Identifier' ? String(node.value) : undefined;

/** Rewrites a node and everything below it. */
function rewrite(node: Node): Node {
  for (const [key, value] of Object.entries(node)) {
    if (isNode(value)) node[key] = rewrite(value);
    else if (value instanceof Map) {
      node[key] = new Map([...value].map(([k, v]) => [rewrite(k as Node), rewrite(v as Node)]));
    } else if (Array.isArray(value)) {
      const printed = key === 'body' || key === 'alternate' || key === 'defaultBlock';
      node[key] = value.map(item => {
        if (!isNode(item)) return item;
        const inner = rewrite(item);
        return printed && !statements.has(inner.type) ? call(own('print', ''), inner) : inner;
      });
    }
  }
  if (node.type === 'FilterExpression') {
    const filter = node.filter as Node;
    const args = filter.type === 'CallExpression' ? (filter.args as Node[]) : [];
    const name = named(filter) ?? named(filter.callee) ?? '';
    if (Object.hasOwn(filters, name)) return call(own('filter', name), node.operand, ...args);
    const [first, ...rest] = args;
    if (
      name === 'map' &&
      first?.type === 'StringLiteral' &&
      Object.hasOwn(itemFilters, String(first.value))
    ) {
      return call(own('map', String(first.value)), node.operand, ...rest);
    }
  }
  if (node.type === 'CallExpression') {
    const callee = node.callee as Node;
    const name = callee.type === 'MemberExpression' && !callee.computed ? named(callee.property) : undefined;
    if (name !== undefined && Object.hasOwn(methods, name)) {
      return call(own('method', name), callee.object, ...(node.args as unknown[]));
    }
  }
  return node;
}

/** Remembers the first unknown name, which the library would treat as an undefined value. */
class Names extends Scope {
  missing: string | undefined;

  // Inner scopes of a template call this on their parents.
  resolve(name: string): Names {
    if (!this.variables.has(name)) {
      this.missing ??= name;
      throw new Error(`no field "${name}"`);
    }
    return this;
  }

  /** Defines a function that receives plain values, including null and undefined. */
  define(name: string, f: Function): void {
    const held = this.set(name, f);
    const library = held.value as (args: readonly { value: unknown }[]) => unknown;
    held.value = (args: readonly Wrapped[]) => library(args.map(arg => ({ value: unwrapped(arg) })));
  }
}

/** A parsed Jinja template of a task file. */
export class Template {
  readonly #program: { body: Node[] };
  /** Set if the whole template is one expression. */
  readonly #expression: Node | undefined;

  /** @throws Error if the source is not valid Jinja. */
  constructor(readonly source: string) {
    // The library drops a trailing newline, Jinja's default, but lm-eval keeps it.
    const parsed = () =>
      parse(tokenize(source.endsWith('\n') ? `${source}\n` : source)) as unknown as { body: Node[] };
    const [only, ...others] = parsed().body;
    if (only && others.length === 0 && !statements.has(only.type)) this.#expression = rewrite(only);
    this.#program = rewrite(parsed() as unknown as Node) as unknown as { body: Node[] };
  }

  /** Renders the template as text. @throws Error naming what is missing or wrong. */
  text(fields: Readonly<Record<string, unknown>>): string {
    return this.#run(this.#program.body, fields, {});
  }

  /** Evaluates a template that is a single expression {{...}}, else renders it as text. @throws Error as `text`. */
  value(fields: Readonly<Record<string, unknown>>): unknown {
    if (!this.#expression) return this.text(fields);
    let kept: unknown;
    const keep = (value: unknown) => {
      kept = value;
      if (kept === undefined) throw new Error('its value is missing');
      return '';
    };
    this.#run([call(own('keep', ''), this.#expression)], fields, { [own('keep', '')]: keep as Function });
    return kept;
  }

  #run(
    body: readonly Node[],
    fields: Readonly<Record<string, unknown>>,
    more: Readonly<Record<string, Function>>,
  ): string {
    const names = new Names();
    for (const [name, f] of Object.entries({ ...functions, ...more })) names.define(name, f);
    for (const [name, value] of Object.entries(fields)) {
      // A row may have a field called range.
      names.variables.delete(name);
      names.set(name, value);
    }
    try {
      const result = new Interpreter(names).run({ type: 'Program', body } as never) as { value: unknown };
      return String(result.value);
    } catch (error) {
      if (names.missing === undefined) throw error;
      throw new Error(`there is no field "${names.missing}"`, { cause: error });
    }
  }
}
