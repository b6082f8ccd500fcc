import * as assert from 'uvu/assert';
import { exactArithmetic } from '../engine/exactArithmetic.js';
import { type ErrorCode, RmError } from '../engine/index.js';

export { normals } from '../kernels/cases/data.js';

/** Asserts that `work` throws an RmError with `code` and something to do, and returns its message. */
export async function rejectsWith(work: () => unknown, code: ErrorCode): Promise<string> {
  let thrown: unknown;
  try {
    await work();
  } catch (error) {
    thrown = error;
  }
  if (!(thrown instanceof RmError))
    throw thrown ?? new Error(`expected an RmError ${code}, nothing was thrown`);
  assert.is(thrown.code, code, thrown.message);
  assert.ok(thrown.fix.length > 10, 'the error says what to do');
  return thrown.message;
}

/** |a - b|_F / |b|_F in f64. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.is(actual.length, expected.length);
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return Math.sqrt(difference / (norm || 1));
}

/** Largest absolute difference. */
export function maxAbsError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.is(actual.length, expected.length);
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    // Math.max keeps a NaN, which no tolerance accepts.
    worst = Math.max(worst, Math.abs(actual[i]! - expected[i]!));
  }
  return worst;
}

/** The product's exact arithmetic as an optimiser that cancels a - (s - t) would leave that by floats: no low parts. */
export const breaksFloats: typeof exactArithmetic = (type, exact) => {
  const wgsl = exactArithmetic(type, exact);
  const n = type === 'f32' ? '' : '4';
  const twoSum = new RegExp(`fn twoSum${n}\\([^}]*}`);
  assert.match(wgsl, twoSum);
  return exact === 'integer'
    ? wgsl
    : wgsl.replace(
        twoSum,
        `fn twoSum${n}(a: ${type}, b: ${type}) -> Pair${n} { return Pair${n}(a + b, ${type}()); }`,
      );
};
