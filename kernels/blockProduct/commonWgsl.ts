import type { ProgramTarget } from '../../engine/index.js';
import { exactArithmetic, RUNTIME_ZERO } from '../shared/doubleSingle.js';

/**
 * Precision of a product. f32 takes 2 operations per multiply-add. 'pair' is double-single: 22 operations and an error of
 * about 2^-48 of the terms. 'precise' sums pairs in three parts: 55 operations and an error of 2^-51, for residuals, whose
 * terms exceed the result by a factor of the condition number.
 */
export type Precision = 'f32' | 'pair' | 'precise';

/** Operations per multiply-add. */
export const operations = { f32: 2, pair: 22, precise: 55 } as const;

/** Terms of a partial sum. */
export const PARTIAL = 16;
/** Terms of a long sum, which is then added to the output. Precise sums take all terms of the product. */
export const CHUNK = 256;

/** WGSL of the arithmetic in one precision. Values are four columns wide. */
export interface Arithmetic {
  /** Suffixes of a matrix's parts. */
  parts: readonly string[];
  functions(target: ProgramTarget): string;
  /** Type of partial and long sums. */
  sum: string;
  add(s: string, t: string): string;
  /** Builds the value of four columns; `part` is a vec4f. */
  value(part: (suffix: string) => string): string;
  /** Spreads a scalar over four columns, for `multiplyAdd`. */
  spread(part: (suffix: string) => string): string;
  /** t + a b */
  multiplyAdd(t: string, a: string, b: string): string;
  /** A part of the final sum, as vec4f. */
  result(s: string, suffix: string): string;
  /** Builds a scalar from its parts. */
  scalar(part: (suffix: string) => string): string;
  addScalars(s: string, t: string): string;
  scalarPart(s: string, suffix: string): string;
}

const f32: Arithmetic = {
  parts: [''],
  functions: () => '',
  sum: 'vec4f',
  add: (s, t) => `${s} + ${t}`,
  value: part => part(''),
  spread: part => part(''),
  multiplyAdd: (t, a, b) => `${t} + ${a} * ${b}`,
  result: s => s,
  scalar: part => part(''),
  addScalars: (s, t) => `${s} + ${t}`,
  scalarPart: s => s,
};

const pair: Arithmetic = {
  parts: ['Hi', 'Lo'],
  functions: ({ exact }) => exactArithmetic('vec4f', exact) + exactArithmetic('f32', exact),
  sum: 'Pair4',
  add: (s, t) => `addPair4(${s}, normalise4(${t}))`,
  value: part => `Pair4(${part('Hi')}, ${part('Lo')})`,
  spread: part => `Pair4(vec4f(${part('Hi')}), vec4f(${part('Lo')}))`,
  multiplyAdd: (t, a, b) => `multiplyAdd4(${t}, ${a}, ${b})`,
  result: (s, suffix) => `${s}.${suffix.toLowerCase()}`,
  scalar: part => `Pair(${part('Hi')}, ${part('Lo')})`,
  addScalars: (s, t) => `addPair(${s}, ${t})`,
  scalarPart: (s, suffix) => `${s}.${suffix.toLowerCase()}`,
};

const precise: Arithmetic = {
  ...pair,
  // Only the products of low parts are rounded.
  functions: target => /* wgsl */ `${pair.functions(target)}
struct Sum4 { hi: vec4f, lo: vec4f, rest: vec4f }
fn multiplyAddSum4(s: Sum4, a: Pair4, b: Pair4) -> Sum4 {
  let product = twoProduct4(a.hi, b.hi);
  let high = twoSum4(s.hi, product.hi);
  let first = twoSum4(s.lo, product.lo);
  let second = twoSum4(first.hi, high.lo);
  let third = twoSum4(second.hi, a.hi * b.lo);
  let fourth = twoSum4(third.hi, a.lo * b.hi);
  return Sum4(high.hi, fourth.hi, s.rest + (first.lo + second.lo + third.lo + fourth.lo + a.lo * b.lo));
}
fn addSum4(s: Sum4, t: Sum4) -> Sum4 {
  let high = twoSum4(s.hi, t.hi);
  let middle = twoSum4(s.lo, t.lo);
  let low = twoSum4(middle.hi, high.lo);
  return Sum4(high.hi, low.hi, s.rest + t.rest + (middle.lo + low.lo));
}
fn total4(s: Sum4) -> Pair4 {
  let t = fastTwoSum4(s.hi, s.lo);
  return fastTwoSum4(t.hi, t.lo + s.rest);
}`,
  sum: 'Sum4',
  add: (s, t) => `addSum4(${s}, ${t})`,
  multiplyAdd: (t, a, b) => `multiplyAddSum4(${t}, ${a}, ${b})`,
  result: (s, suffix) => `total4(${s}).${suffix.toLowerCase()}`,
};

/** The arithmetic of each precision. */
export const arithmetics: Readonly<Record<Precision, Arithmetic>> = { f32, pair, precise };

/**
 * WGSL that the variants share: parameters, bindings and functions. `aAt(row)` returns the index of a row's first element,
 * `columns(column)` four neighbouring columns. `store(row, column, sum, first)` adds to the output or, for the first chunk,
 * to F. Past the edges, programs read the last row or column again and do not store it.
 *
 * A driver on the CPU takes some 50 ms to compile each read or write of memory, so `store` contains only one of each.
 */
export function head(arithmetic: Arithmetic, target: ProgramTarget): string {
  const { parts, functions, sum, result, scalar, addScalars, scalarPart } = arithmetic;
  const bind = (name: string, first: number, access: string) =>
    parts
      .map(
        (part, i) => `@group(0) @binding(${first + i}) var<storage, ${access}> ${name}${part}: array<f32>;`,
      )
      .join('\n');
  return /* wgsl */ `
struct Params {
  m: u32, n: u32, k: u32, begins: u32, firstColumn: u32, sign: f32, chunk: u32,
  aOffset: u32, aRow: u32, aColumn: u32, bOffset: u32, bRow: u32,
  fromOffset: u32, fromRow: u32, outOffset: u32, outRow: u32, ${RUNTIME_ZERO}
}
@group(0) @binding(0) var<uniform> p: Params;
${bind('outMatrix', 1, 'read_write')}
${bind('aMatrix', 1 + parts.length, 'read')}
${bind('bMatrix', 1 + 2 * parts.length, 'read')}
/** F if \`begins\` is 1; with 2 the output is added to, with 0 it begins at zero. */
${bind('fromMatrix', 1 + 3 * parts.length, 'read')}
${functions(target)}
fn columns(column: u32) -> vec4u { return min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(p.n - 1u)); }
fn aAt(row: u32) -> u32 { return p.aOffset + min(row, p.m - 1u) * p.aRow; }
fn store(row: u32, column: u32, s: ${sum}, first: bool) {
  if (row >= p.m) { return; }
  ${parts.map(part => `let v${part} = ${result('s', part)};`).join('\n  ')}
  let begins = select(2u, p.begins, first);
  for (var j = 0u; j < min(4u, p.n - min(column, p.n)); j++) {
    let at = p.outOffset + row * p.outRow + column + j;
    var sum = ${scalar(part => `v${part}[j]`)};
    if (begins == 1u) {
      let source = p.fromOffset + row * p.fromRow + column + j;
      sum = ${addScalars(
        scalar(part => `fromMatrix${part}[source]`),
        'sum',
      )};
    } else if (begins == 2u) {
      sum = ${addScalars(
        scalar(part => `outMatrix${part}[at]`),
        'sum',
      )};
    }
    ${parts.map(part => `outMatrix${part}[at] = ${scalarPart('sum', part)};`).join(' ')}
  }
}`;
}
