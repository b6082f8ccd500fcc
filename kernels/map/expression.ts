import { didYouMean } from '../../engine/index.js';
import type { MathFunction } from '../shared/mathWgsl.js';
import { functions } from './functions.js';
import { type Node, parseExpression, wrongExpression } from './parse.js';

/** The type of a value: numbers of the text become what stands beside them. */
type Type = 'f32' | 'u32' | 'bool' | 'number';
/** What a name stands for: elements of a tensor, or a number that is the same for all. */
export type InputKind = 'f32' | 'u32' | 'parameter';

/** An expression in WGSL. T, U and B are the program's f32, u32 and bool, or vectors of four. */
export interface Expression {
  /** Statements; they read `x0`, `x1`, ... for the inputs and `p.k0`, ... for `constants`. */
  readonly statements: string;
  /** WGSL of the value after them. */
  readonly value: string;
  /** Functions that the statements call. */
  readonly calls: readonly MathFunction[];
  /** Numbers of the text and parameters, in the order of `p.k0`, `p.k1`, ... */
  readonly constants: readonly Constant[];
  /** Operations for each element. */
  readonly operations: number;
  /** It asks for places (`index`, `row`, `column`). */
  readonly places: boolean;
}

/** A number of the text, or the parameter of a name. */
export interface Constant {
  readonly type: 'f32' | 'u32';
  readonly value: number | string;
}

/** Numbers that have names, and the places of elements. */
const named: ReadonlyMap<string, number> = new Map([
  ['pi', Math.PI],
  ['infinity', Number.POSITIVE_INFINITY],
]);
const places = ['index', 'row', 'column'];

/** Most numbers and parameters: they lie in a uniform block. */
const MOST_CONSTANTS = 32;

const wgslType = { f32: 'T', u32: 'U', bool: 'B' } as const;
const comparisons: ReadonlySet<string> = new Set(['<', '<=', '>', '>=', '==', '!=']);

const folded: Readonly<Record<string, (a: number, b: number) => number>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  '%': (a, b) => a % b,
  '**': (a, b) => a ** b,
};

/** Numbers of the text are computed on the host, in f64. */
function fold(node: Node, kinds: Readonly<Record<string, InputKind>>): Node {
  switch (node.kind) {
    case 'name': {
      const value = Object.hasOwn(kinds, node.name) ? undefined : named.get(node.name);
      return value === undefined ? node : { kind: 'number', value, at: node.at };
    }
    case 'unary': {
      const of = fold(node.of, kinds);
      if (node.op === '-' && of.kind === 'number') return { ...of, value: -of.value, at: node.at };
      return { ...node, of };
    }
    case 'binary': {
      const [left, right] = [fold(node.left, kinds), fold(node.right, kinds)];
      const compute = folded[node.op];
      if (compute && left.kind === 'number' && right.kind === 'number')
        return { kind: 'number', value: compute(left.value, right.value), at: left.at };
      return { ...node, left, right };
    }
    case 'call':
      return { ...node, args: node.args.map(arg => fold(arg, kinds)) };
    case 'choice':
      return {
        ...node,
        condition: fold(node.condition, kinds),
        yes: fold(node.yes, kinds),
        no: fold(node.no, kinds),
      };
    default:
      return node;
  }
}

/** Turns a parsed expression into statements, one for each part, so that no driver sees a deep one. */
class Generator {
  readonly lines: string[] = [];
  readonly constants: Constant[] = [];
  readonly calls = new Set<MathFunction>();
  readonly used = new Set<string>();
  readonly #values = new Map<string, string>();
  #inputs: readonly string[];

  constructor(
    private readonly kernel: string,
    private readonly text: string,
    private readonly kinds: Readonly<Record<string, InputKind>>,
  ) {
    this.#inputs = Object.keys(kinds);
  }

  wrong(node: Node, what: string, fix?: string) {
    return wrongExpression(this.kernel, this.text, node.at, what, fix);
  }

  /** WGSL of a value as this type. */
  as(node: Node, type: 'f32' | 'u32' | 'bool'): string {
    const own = this.#typeOf(node);
    if (own !== type && own !== 'number') throw this.#mismatch(node, own, type);
    if (own === 'number' && type === 'bool') throw this.#mismatch(node, 'number', type);
    return this.#emit(node, type);
  }

  #mismatch(node: Node, own: Type, type: string) {
    const words = { f32: 'a float', u32: 'an integer', bool: 'true or false', number: 'a number' };
    const fix =
      type === 'bool'
        ? 'Compare it, as in `x > 0`.'
        : own === 'bool'
          ? 'Choose, as in `x > y ? 1 : 0`.'
          : `Convert it: ${type}(...).`;
    return this.wrong(node, `this is ${words[own]}, ${words[type as Type]} is needed`, fix);
  }

  #typeOf(node: Node): Type {
    switch (node.kind) {
      case 'number':
        return 'number';
      case 'name':
        return this.#typeOfName(node);
      case 'call':
        return this.#typeOfCall(node);
      case 'unary':
        return node.op === '!' ? 'bool' : this.#typeOf(node.of);
      case 'binary':
        if (comparisons.has(node.op) || node.op === '&&' || node.op === '||') return 'bool';
        return node.op === '**' ? 'f32' : this.#common(node, node.left, node.right);
      case 'choice':
        return this.#common(node, node.yes, node.no);
    }
  }

  #typeOfName(node: Node & { kind: 'name' }): Type {
    const kind = Object.hasOwn(this.kinds, node.name) ? this.kinds[node.name] : undefined;
    if (kind) return kind === 'parameter' ? 'number' : kind;
    if (places.includes(node.name)) return 'u32';
    const known = [...this.#inputs, ...named.keys(), ...places];
    throw this.wrong(
      node,
      functions.has(node.name)
        ? `'${node.name}' is a function without arguments`
        : `there is no '${node.name}'`,
      `${didYouMean(node.name, known)}Inputs are ${this.#inputs.join(', ') || 'none'}.`,
    );
  }

  #typeOfCall(node: Node & { kind: 'call' }): Type {
    const { name, args } = node;
    const called = functions.get(name);
    if (!called && name !== 'f32' && name !== 'u32') {
      const fix = `${didYouMean(name, [...functions.keys(), 'f32', 'u32'])}Functions are f32, u32, ${[...functions.keys()].join(', ')}.`;
      throw this.wrong(node, `there is no function '${name}'`, fix);
    }
    const count = called?.args ?? 1;
    if (args.length !== count)
      throw this.wrong(node, `'${name}' got ${args.length} arguments and takes ${count}`);
    if (!called) return name as 'f32' | 'u32';
    if (called.logical) return 'bool';
    return called.integers && args.some(arg => this.#typeOf(arg) === 'u32') ? 'u32' : 'f32';
  }

  #common(node: Node, a: Node, b: Node): Type {
    const [left, right] = [this.#typeOf(a), this.#typeOf(b)];
    if (left === right || right === 'number') return left;
    if (left === 'number') return right;
    throw this.wrong(
      node,
      'a float and an integer, or true and a number, do not go together',
      'Convert one: f32(...) or u32(...).',
    );
  }

  #emit(node: Node, type: 'f32' | 'u32' | 'bool'): string {
    switch (node.kind) {
      case 'number':
        return this.#constant(node, type as 'f32', node.value);
      case 'name':
        this.used.add(node.name);
        if (places.includes(node.name) && !Object.hasOwn(this.kinds, node.name)) return node.name;
        if (this.kinds[node.name] === 'parameter') return this.#constant(node, type as 'f32', node.name);
        return `x${this.#inputs.indexOf(node.name)}`;
      case 'call':
        return this.#call(node, type);
      case 'unary': {
        if (node.op === '-' && type === 'bool') throw this.#mismatch(node, 'bool', 'f32');
        if (node.op === '-' && type === 'u32')
          throw this.wrong(node, 'an integer of 0 or more has no negative', 'Convert it: f32(...).');
        return this.#value(type, `${node.op}${this.as(node.of, type)}`);
      }
      case 'binary':
        return this.#binary(node, type);
      case 'choice': {
        const condition = this.as(node.condition, 'bool');
        const [yes, no] = [this.as(node.yes, type), this.as(node.no, type)];
        return this.#value(type, `select(${no}, ${yes}, ${condition})`);
      }
    }
  }

  #binary(node: Node & { kind: 'binary' }, type: 'f32' | 'u32' | 'bool'): string {
    const { op, left, right } = node;
    if (op === '&&' || op === '||')
      return this.#value('bool', `${this.as(left, 'bool')} ${op[0]} ${this.as(right, 'bool')}`);
    if (op === '**') return this.#power(node);
    let operands = type;
    if (comparisons.has(op)) {
      const common = this.#common(node, left, right);
      if (common === 'bool') throw this.#mismatch(left, 'bool', 'f32');
      operands = common === 'u32' ? 'u32' : 'f32';
    } else if (type === 'bool') throw this.#mismatch(node, 'bool', 'f32');
    return this.#value(type, `${this.as(left, operands)} ${op} ${this.as(right, operands)}`);
  }

  /** Small powers are products, which are exact where they can be. */
  #power({ left, right }: Node & { kind: 'binary' }): string {
    const base = this.as(left, 'f32');
    const exponent = right.kind === 'number' ? right.value : undefined;
    if (exponent === 2) return this.#value('f32', `${base} * ${base}`);
    if (exponent === 3) return this.#value('f32', `${base} * ${base} * ${base}`);
    this.calls.add('power');
    return this.#value('f32', `power(${base}, ${this.as(right, 'f32')})`);
  }

  #call(node: Node & { kind: 'call' }, type: 'f32' | 'u32' | 'bool'): string {
    const called = functions.get(node.name);
    if (!called) return this.#convert(node);
    if (called.needs) this.calls.add(called.needs);
    const operands = called.integers && type === 'u32' ? 'u32' : 'f32';
    return this.#value(type, called.wgsl(...node.args.map(arg => this.as(arg, operands))));
  }

  /** f32(x) or u32(x). */
  #convert({ name, args }: Node & { kind: 'call' }): string {
    const type = name as 'f32' | 'u32';
    const own = this.#typeOf(args[0]!);
    if (own === type || own === 'number') return this.as(args[0]!, type);
    const value = this.as(args[0]!, own);
    if (own === 'bool')
      return this.#value(type, `select(${wgslType[type]}(0), ${wgslType[type]}(1), ${value})`);
    return this.#value(type, `${wgslType[type]}(${value})`);
  }

  /** Numbers are parameters of the program: other numbers need no other program, and none overflows in the compiler. */
  #constant(node: Node, type: 'f32' | 'u32', value: number | string): string {
    if (type === 'u32' && typeof value === 'number' && value >>> 0 !== value)
      throw this.wrong(
        node,
        `${value} is no integer from 0 to ${2 ** 32 - 1}`,
        'Convert the others: f32(...).',
      );
    let at = this.constants.findIndex(known => known.type === type && Object.is(known.value, value));
    if (at < 0) {
      at = this.constants.push({ type, value }) - 1;
      if (at >= MOST_CONSTANTS)
        throw this.wrong(node, `more than ${MOST_CONSTANTS} numbers`, 'Compute it in parts.');
    }
    return `${wgslType[type]}(p.k${at})`;
  }

  /** Equal parts are computed once. */
  #value(type: 'f32' | 'u32' | 'bool', wgsl: string): string {
    const key = `${type} ${wgsl}`;
    let name = this.#values.get(key);
    if (name === undefined) {
      name = `t${this.#values.size}`;
      this.#values.set(key, name);
      this.lines.push(`  let ${name}: ${wgslType[type]} = ${wgsl};`);
    }
    return name;
  }
}

const cache = new Map<string, Expression>();
const MOST_CACHED = 4096;

/**
 * Checks an expression of these inputs whose value is `type`, and turns it into WGSL.
 *
 * @throws RmError INVALID_ARGUMENT with the place of what is wrong.
 */
export function expressionOf(
  kernel: string,
  text: string,
  kinds: Readonly<Record<string, InputKind>>,
  type: 'f32' | 'u32',
): Expression {
  let key = `${type} ${kernel} ${text}`;
  for (const name in kinds) key += `\n${name} ${kinds[name]}`;
  const known = cache.get(key);
  if (known) return known;
  const node = fold(parseExpression(kernel, text), kinds);
  const generator = new Generator(kernel, text, kinds);
  const value = generator.as(node, type);
  const unused = Object.keys(kinds).find(name => !generator.used.has(name));
  if (unused !== undefined)
    throw wrongExpression(kernel, text, 0, `it does not read '${unused}'`, 'Leave that input out.');
  const expression: Expression = {
    statements: generator.lines.join('\n'),
    value,
    calls: [...generator.calls],
    constants: generator.constants,
    operations: Math.max(1, generator.lines.length),
    places: places.some(place => generator.used.has(place) && !Object.hasOwn(kinds, place)),
  };
  if (cache.size >= MOST_CACHED) cache.clear();
  cache.set(key, expression);
  return expression;
}
