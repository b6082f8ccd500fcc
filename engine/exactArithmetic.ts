/**
 * WGSL of the error-free transformations (Knuth's two-sum, Dekker's two-product) and of double-single accumulation.
 *
 * WGSL lets a compiler reassociate and fuse: Mesa turns a plain two-sum into zero, and Metal and D3D compile in
 * fast-math modes, which reorder any chain of sums and products. `fma` may be unfused. Every sum, difference and
 * rounded product that another operation reads is therefore hidden from the optimiser by XOR with a zero that only the
 * uniform block knows, so that no two of them make a chain (low parts may: their own rounding does not matter).
 * Products are split by a bit mask, so that all partial products are exact with or without fusing.
 *
 * Where that does not hold (no WGSL promises it), integers take over, many times slower; selftest.ts decides for a
 * device. They compute every sum and product that is rounded. Differences that floats hold exactly need no rounding:
 * every other of those is left to floats, so that no two float operations follow each other and nothing is left to
 * reorder. The bits are the same where nothing underflows.
 */
import { integerArithmetic } from './integerArithmetic.js';
import type { ProgramTarget } from './program.js';

/** Name of the uniform u32 that holds zero; a program that uses `exactArithmetic` has it in its block `p`. */
export const RUNTIME_ZERO = 'zero: u32';

const suffix = { f32: '', vec4f: '4' } as const;
const bits = { f32: 'u32', vec4f: 'vec4u' } as const;

/**
 * Functions for f32 (`twoSum`) or vec4f (`twoSum4`); of a pair, hi + lo is exact and hi is its rounding.
 *
 * keep(v) = v, opaque; top(v) = v's leading 12 bits; twoSum(a, b) = a + b; fastTwoSum(a, b) = a + b for |a| >= |b|;
 * twoProduct(a, b) = a * b; add(s, v) = s + v; addPair(a, b) = a + b; multiplyAdd(s, a, b) = s + a * b for pairs.
 * The sums are normalised, that of `multiplyAdd` only after normalise(s).
 *
 * @param exact of the program's target.
 */
export function exactArithmetic(type: 'f32' | 'vec4f', exact: ProgramTarget['exact']): string {
  const n = suffix[type];
  const u = bits[type];
  const float = exact === 'float';
  const plus = (a: string, b: string) => (float ? `keep${n}(${a} + ${b})` : `plus${n}(${a}, ${b})`);
  return /* wgsl */ `${float ? '' : integerArithmetic(type)}
struct Pair${n} { hi: ${type}, lo: ${type} }
fn keep${n}(v: ${type}) -> ${type} { return bitcast<${type}>(bitcast<${u}>(v) ^ ${u}(p.zero)); }
fn top${n}(v: ${type}) -> ${type} { return bitcast<${type}>(bitcast<${u}>(v) & ${u}(0xfffff000u)); }
${float ? byFloats(type, n) : byIntegers(type, n)}
fn normalise${n}(s: Pair${n}) -> Pair${n} { return fastTwoSum${n}(s.hi, s.lo); }
fn add${n}(s: Pair${n}, v: ${type}) -> Pair${n} {
  let t = twoSum${n}(s.hi, v);
  return fastTwoSum${n}(t.hi, ${plus('s.lo', 't.lo')});
}
fn addPair${n}(a: Pair${n}, b: Pair${n}) -> Pair${n} {
  let s = twoSum${n}(a.hi, b.hi);
  let t = twoSum${n}(a.lo, b.lo);
  let u = fastTwoSum${n}(s.hi, ${plus('s.lo', 't.hi')});
  return fastTwoSum${n}(u.hi, ${plus('u.lo', 't.lo')});
}
fn multiplyAdd${n}(s: Pair${n}, a: Pair${n}, b: Pair${n}) -> Pair${n} {
  let product = twoProduct${n}(a.hi, b.hi);
  let t = twoSum${n}(s.hi, product.hi);
  return Pair${n}(t.hi, s.lo + (t.lo + (product.lo + (a.hi * b.lo + a.lo * b.hi))));
}
`;
}

const byFloats = (type: string, n: string): string => /* wgsl */ `
fn twoSum${n}(a: ${type}, b: ${type}) -> Pair${n} {
  let s = keep${n}(a + b);
  let t = keep${n}(s - a);
  return Pair${n}(s, keep${n}(keep${n}(a - keep${n}(s - t)) + keep${n}(b - t)));
}
fn fastTwoSum${n}(a: ${type}, b: ${type}) -> Pair${n} {
  let s = keep${n}(a + b);
  return Pair${n}(s, keep${n}(b - keep${n}(s - a)));
}
fn twoProduct${n}(a: ${type}, b: ${type}) -> Pair${n} {
  let s = keep${n}(a * b);
  let ah = top${n}(a);
  let al = keep${n}(a - ah);
  let bh = top${n}(b);
  let bl = keep${n}(b - bh);
  return Pair${n}(s, keep${n}(keep${n}(keep${n}(keep${n}(ah * bh - s) + ah * bl) + al * bh) + al * bl));
}`;

const byIntegers = (type: string, n: string): string => /* wgsl */ `
fn fastTwoSum${n}(a: ${type}, b: ${type}) -> Pair${n} {
  let s = plus${n}(a, b);
  return Pair${n}(s, plus${n}(b, -keep${n}(s - a)));
}
fn twoSum${n}(a: ${type}, b: ${type}) -> Pair${n} {
  let swap = abs(a) < abs(b);
  return fastTwoSum${n}(select(a, b, swap), select(b, a, swap));
}
fn twoProduct${n}(a: ${type}, b: ${type}) -> Pair${n} {
  let s = times${n}(a, b);
  let ah = top${n}(a);
  let al = keep${n}(a - ah);
  let bh = top${n}(b);
  let bl = keep${n}(b - bh);
  let first = keep${n}(plus${n}(ah * bh, -s) + ah * bl);
  return Pair${n}(s, keep${n}(plus${n}(first, al * bh) + al * bl));
}`;

/** Quotient and square root of normalised pairs to about 2^-46; needs `exactArithmetic('f32')`. */
export const pairDivision = /* wgsl */ `
fn minus(a: Pair, q: f32, b: Pair) -> Pair {
  return normalise(multiplyAdd(a, Pair(-q, 0.0), b));
}
fn divide(a: Pair, b: Pair) -> Pair {
  let q1 = keep(a.hi / b.hi);
  let r1 = minus(a, q1, b);
  let q2 = keep(r1.hi / b.hi);
  let r2 = minus(r1, q2, b);
  return add(fastTwoSum(q1, q2), keep(r2.hi / b.hi));
}
fn squareRoot(a: Pair) -> Pair {
  let s1 = keep(sqrt(a.hi));
  let r1 = minus(a, s1, Pair(s1, 0.0));
  let s = fastTwoSum(s1, keep(r1.hi / (2.0 * s1)));
  let r2 = normalise(multiplyAdd(a, Pair(-s.hi, -s.lo), s));
  return add(s, keep(r2.hi / (2.0 * s.hi)));
}
`;
