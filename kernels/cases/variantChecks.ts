import {
  type DType,
  decodeToF32,
  encodeFromF32,
  type Recorder,
  type Scope,
  smallTensor,
  tensorFrom,
} from '../../engine/index.js';
import { type AttentionProgram, attention } from '../attention/attention.js';
import type { AttentionVariant } from '../attention/variants.js';
import { type BlockProgram, blockProduct } from '../blockProduct/blockProduct.js';
import { crossGram } from '../gram/crossGram.js';
import type { OuterProductsProgram } from '../gram/outerProducts.js';
import type { OperandLayout } from '../matmul/commonWgsl.js';
import { type ProductProgram, recordProduct } from '../matmul/recordProduct.js';
import { clearDoubleSingle, createDoubleSingle } from '../shared/doubleSingle.js';
import type { CheckedRun, VariantChecks } from '../shared/trustedVariants.js';
import { activations } from './activations.js';
import { attentionF64 } from './attention.js';
import { normals } from './data.js';
import { outerProductsF64 } from './gramAndSolve.js';

/** Terms of a checked sum: drivers have been wrong at some lengths and right at shorter ones. */
const DEPTH = 2048;
const SAMPLES = 64;
/** Accepted error of a sum of products over |a| |b|; a missing term of DEPTH makes 4e-4. */
const TOLERANCE = 1e-5;
/** The same where f32 operands are rounded to 11 bits. */
const SINGLE_TOLERANCE = 4e-5;
/** No activation is steeper. */
const STEEPEST = 1.2;

/** As a kernel reads them: rounded to the dtype. */
function operand(
  scope: Scope,
  shape: readonly number[],
  dtype: Exclude<DType, 'u32'>,
  seed: number,
  size = 1,
) {
  const values = normals(
    shape.reduce((product, extent) => product * extent, 1),
    seed,
  );
  const bytes = encodeFromF32(size === 1 ? values : values.map(value => value * size), dtype);
  return {
    tensor: scope.own(smallTensor(scope.device, bytes, shape, dtype)),
    values: decodeToF32(bytes, dtype),
  };
}

/** Places of [rows, columns]: corners, and others spread evenly. */
function samples(rows: number, columns: number): [row: number, column: number][] {
  const places = Array.from({ length: SAMPLES }, (_, i): [number, number] => [
    Math.floor((((i * 37) % SAMPLES) * rows) / SAMPLES),
    Math.floor((i * columns) / SAMPLES),
  ]);
  return [...places, [0, columns - 1], [rows - 1, 0], [rows - 1, columns - 1]];
}

/** One element of a product, with the norms of its row and its column. */
function dot(
  count: number,
  a: (k: number) => number,
  b: (k: number) => number,
): { sum: number; norms: number } {
  let [sum, left, right] = [0, 0, 0];
  for (let k = 0; k < count; k++) {
    const [x, y] = [a(k), b(k)];
    sum += x * y;
    left += x * x;
    right += y * y;
  }
  return { sum, norms: Math.sqrt(left * right) };
}

/** A product with the operands, the epilogue and the program of this one, over DEPTH terms. */
function checkProduct(rec: Recorder, scope: Scope, program: ProductProgram): CheckedRun {
  const { kernel, choice, rows, columns } = program;
  const layout = { ...program.layout, partial: false };
  const { gated, lower = false } = layout;
  const tolerance = choice.variant === 'subgroupMatrix' && choice.single ? SINGLE_TOLERANCE : TOLERANCE;
  const k = layout.oddK ? DEPTH - 1 : DEPTH;
  // One tile and a bit, with extents that are multiples of 4 exactly where the program takes that for granted.
  const beyond = (extent: number, aligned: boolean) => extent + (aligned ? 4 : 3);
  const n = beyond(lower ? Math.max(rows, columns) : columns, layout.vec4Out);
  const m = lower
    ? n
    : choice.variant === 'matvec'
      ? rows
      : beyond(rows, layout.a.kContiguous || layout.a.aligned);
  const side = (extent: number, { dtype, kContiguous }: OperandLayout, seed: number, size?: number) => {
    const { tensor, values } = operand(scope, kContiguous ? [extent, k] : [k, extent], dtype, seed, size);
    return { tensor, at: (i: number, l: number) => values[kContiguous ? i * k + l : l * extent + i]! };
  };
  const scale = 1 / Math.sqrt(k);
  const a = side(m, layout.a, 1);
  const b = lower ? a : side(n, layout.b, 2, scale);
  const up = gated && side(n, gated.up, 3, scale);
  // All rows in one group.
  const begins = layout.grouped ? scope.own(tensorFrom(scope.device, Uint32Array.of(0, m), [2])) : undefined;
  const limit = 2;
  const bias = layout.bias ? operand(scope, [n], 'f32', 4) : undefined;
  const upBias = gated?.upBias ? operand(scope, [n], 'f32', 5) : undefined;
  const residual = layout.residual ? operand(scope, [m, n], 'f32', 6) : undefined;
  const out = operand(scope, [m, n], 'f32', 7);
  const from = layout.blocks === 'block' ? operand(scope, [m, n], 'f32', 7) : undefined;
  recordProduct(rec, {
    ...{ kernel, layout, choice, m, n, k, out: out.tensor },
    operands: [a.tensor, b.tensor, ...(up ? [up.tensor] : [])],
    epilogue: [from, bias, upBias, residual].flatMap(added => (added ? [added.tensor] : [])),
    ...(begins && { groups: { begins, count: 1, rows: m, first: 0, end: 1 } }),
    limit,
    ...(layout.blocks && {
      blocks: {
        sign: -1 as const,
        a: { start: 0, row: a.tensor.columns },
        b: { start: 0, row: b.tensor.columns },
        out: { start: 0, row: n },
      },
    }),
  });
  const activation = gated?.activation ?? layout.activation;
  const active = activation ? activations[activation] : (x: number) => x;
  const expected = (i: number, j: number) => {
    const product = dot(
      k,
      l => a.at(i, l),
      l => b.at(j, l),
    );
    const unlimited = product.sum + (bias?.values[j] ?? 0);
    const sum = gated?.limited ? Math.min(unlimited, limit) : unlimited;
    const error = tolerance * (product.norms + Math.abs(sum)) * (activation ? STEEPEST : 1);
    if (up) {
      const other = dot(
        k,
        l => a.at(i, l),
        l => up.at(j, l),
      );
      const plain = other.sum + (upBias?.values[j] ?? 0);
      const factor = gated?.limited ? Math.min(Math.max(plain, -limit), limit) + 1 : plain;
      return {
        value: active(sum) * factor,
        error: error * Math.abs(factor) + Math.abs(active(sum)) * tolerance * (other.norms + 1) + tolerance,
      };
    }
    const before =
      layout.accumulate || (layout.blocks && layout.blocks !== 'nothing') ? out.values[i * n + j]! : 0;
    const added = (residual?.values[i * n + j] ?? 0) + before;
    return {
      value: (layout.blocks ? -1 : 1) * active(sum) + added,
      error: error + tolerance * (1 + Math.abs(added)),
    };
  };
  const places = samples(m, n).filter(([i, j]) => !lower || j <= i);
  return {
    outputs: [out.tensor],
    error: values => largest(places.map(([i, j]) => [values[i * n + j]!, expected(i, j)])),
  };
}

/** The largest error in units of the accepted one; NaN if a value is. */
const largest = (list: [value: number, expected: { value: number; error: number }][]): number =>
  Math.max(...list.map(([value, expected]) => Math.abs(value - expected.value) / expected.error));

/** Accepted error of attention and of sums whose parts are exact, over their largest value. */
const RELATIVE = 1e-5;

/** All values, whose accepted error is that of the largest. */
const compared = (values: ArrayLike<number>, expected: Float64Array, tolerance: number): number => {
  const most = expected.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  return largest(Array.from(expected, (value, i) => [values[i]!, { value, error: tolerance * most }]));
};

/** Attention over so many keys that the program works as in its first use: few queries see more keys than many do. */
function checkAttention(rec: Recorder, scope: Scope, { variant, ...program }: AttentionProgram): CheckedRun {
  const { headDim, group, capped, sunk, partial } = program;
  const many = !('chunk' in variant);
  const queries = many ? 37 : 1;
  const whole = many ? 300 : DEPTH;
  const keys = 'chunk' in variant && partial ? Math.max(whole, 2 * variant.chunk) : whole;
  const shape = { heads: group, kvHeads: 1, headDim, scale: 3 / Math.sqrt(headDim) };
  const options = { ...shape, ...(capped && { softcap: 5 }) };
  const q = operand(scope, [queries, group * headDim], 'f32', 1);
  const k = operand(scope, [keys, headDim], 'f32', 2);
  const v = operand(scope, [keys, headDim], 'f32', 3);
  const ranges = Uint32Array.from({ length: 2 * queries }, (_, i) =>
    i % 2 ? keys - (queries - 1 - (i - 1) / 2) : i % 3,
  );
  const bounds = scope.own(tensorFrom(scope.device, ranges, [queries, 2]));
  const out = operand(scope, [queries, group * headDim], 'f32', 4);
  const sinks = sunk ? operand(scope, [group], 'f32', 5) : undefined;
  const inOneChunk = {
    ...variant,
    name: variant.program,
    chunk: Number.POSITIVE_INFINITY,
  } as AttentionVariant;
  attention(rec, q.tensor, k.tensor, v.tensor, bounds, out.tensor, {
    ...options,
    ...(sinks && { sinks: sinks.tensor }),
    variant: many || partial ? variant : inOneChunk,
  });
  return {
    outputs: [out.tensor],
    error: values =>
      compared(values, attentionF64(q.values, k.values, v.values, ranges, options, sinks?.values), RELATIVE),
  };
}

/** A product of blocks over DEPTH terms that begins at zero. */
function checkBlockProduct(rec: Recorder, scope: Scope, { variant, precision }: BlockProgram): CheckedRun {
  const [m, n] = [variant.kind === 'broadcast' ? variant.rows + 1 : 65, 67];
  const pair = precision !== 'f32';
  const matrix = (rows: number, columns: number, seed: number) => {
    const { tensor, values } = operand(scope, [rows, columns], 'f32', seed);
    // The lower halves are as large as they can be.
    const lo = pair ? operand(scope, [rows, columns], 'f32', seed + 10, 2 ** -26) : undefined;
    return {
      matrix: lo ? { hi: tensor, lo: lo.tensor } : tensor,
      at: (i: number) => values[i]! + (lo?.values[i] ?? 0),
    };
  };
  const [a, b, out] = [matrix(m, DEPTH, 1), matrix(DEPTH, n, 2), matrix(m, n, 3)];
  const precise = precision === 'precise';
  blockProduct(rec, {
    ...{ out: { matrix: out.matrix }, a: { matrix: a.matrix }, b: { matrix: b.matrix } },
    ...{ shape: [m, n, DEPTH], op: 'add', precise, variant },
  });
  // What pairs hold beyond f32 is tested by requireExactArithmetic; here a sum in f32 would be 100 times too coarse.
  const tolerance = pair ? 1e-9 : TOLERANCE;
  const parts = 'hi' in out.matrix ? [out.matrix.hi, out.matrix.lo] : [out.matrix];
  return {
    outputs: parts,
    error: (hi, lo) =>
      largest(
        samples(m, n).map(([i, j]) => {
          const { sum, norms } = dot(
            DEPTH,
            k => a.at(i * DEPTH + k),
            k => b.at(k * n + j),
          );
          return [hi![i * n + j]! + (lo?.[i * n + j] ?? 0), { value: sum, error: tolerance * norms }];
        }),
      ),
  };
}

/** X^T diag(w) Y over DEPTH rows. */
function checkOuterProducts(
  rec: Recorder,
  scope: Scope,
  { choice, weighted, whole }: OuterProductsProgram,
): CheckedRun {
  const [m, n] = whole ? [36, 68] : [35, 67];
  const x = operand(scope, [DEPTH, m], 'f32', 1);
  const y = operand(scope, [DEPTH, n], 'f32', 2);
  const weights = weighted ? normals(DEPTH, 3).map(Math.abs) : undefined;
  const w = weights && scope.own(tensorFrom(scope.device, weights));
  const out = createDoubleSingle(scope, [m, n]);
  clearDoubleSingle(rec, out);
  crossGram(rec, x.tensor, y.tensor, w, out, { variant: choice });
  return {
    outputs: [out.hi, out.lo],
    error: (hi, lo) => {
      const sums = hi!.map((value, i) => value + lo![i]!);
      return compared(sums, outerProductsF64(x.values, y.values, weights, [DEPTH, m, n]), RELATIVE);
    },
  };
}

/** The checks of all kernels that have variants. */
export const variantChecks: VariantChecks = {
  matmul: checkProduct,
  gatedMatmul: checkProduct,
  attention: checkAttention,
  'blockProduct f32': checkBlockProduct,
  'blockProduct pair': checkBlockProduct,
  'blockProduct precise': checkBlockProduct,
  'outer products': checkOuterProducts,
};
