/**
 * WGSL of error-free transformations (Knuth's two-sum, Dekker's two-product) and of double-single accumulation.
 *
 * WGSL lets a compiler reassociate and fuse: Mesa turns a plain two-sum into zero, and Metal and D3D compile in
 * fast-math modes, which reorder any chain of sums and products. `fma` may be unfused. Therefore every sum, difference
 * and rounded product that another operation reads is XORed with a zero that only the uniform block knows: the optimiser
 * cannot see through it, so no two operations form a chain. (Low parts may: their own rounding does not matter.)
 * A bit mask splits the factors of products, so that all partial products are exact with or without fusing.
 *
 * WGSL does not guarantee that this works. selftest.ts tests each device; where it fails, integer operations compute
 * every rounded sum and product, many times slower. Differences that f32 holds exactly need no rounding: every other one
 * of them stays a float operation, so that no two float operations follow each other and nothing can be reordered. Both
 * ways give the same bits unless a value underflows.
 */
import { integerArithmetic } from './integerArithmetic.js';
import type { ProgramTarget } from './program.js';

/** Declares the uniform u32 that holds zero; programs that use `exactArithmetic` need it in their block `p`. */
export const RUNTIME_ZERO = 'zero: u32';

const suffix = { f32: '', vec4f: '4' } as const;
const bits = { f32: 'u32', vec4f: 'vec4u' } as const;

/**
 * WGSL functions for f32 (`twoSum`) or vec4f (`twoSum4`). A pair stands for hi + lo exactly, and hi is that sum rounded.
 *
 * keep(v) = v, opaque; top(v) = v's leading 12 bits; twoSum(a, b) = a + b; fastTwoSum(a, b) = a + b for |a| >= |b|;
 * twoProduct(a, b) = a * b; add(s, v) = s + v; addPair(a, b) = a + b; multiplyAdd(s, a, b) = s + a * b for pairs.
 * Results are normalised, except that of `multiplyAdd`, which needs normalise(s).
 *
 * @param exact which arithmetic to use: `ProgramTarget.exact`.
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

/** WGSL of quotient and square root of normalised pairs, to about 2^-46; needs `exactArithmetic('f32')`. */
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
