import {
  checkArguments,
  flag,
  optional,
  type Recorder,
  RmError,
  settings,
  type Tensor,
} from '../../engine/index.js';
import { type Activation, anActivation } from '../shared/activation.js';
import { checkOperands, maybeTensor } from '../shared/checks.js';
import { aMatmulChoice, type MatmulChoice } from './builtInChoice.js';
import { nameOperand, operandType, recordProduct } from './recordProduct.js';
import { batchedMatmul, canRunMatmul, computesBatches, defaultMatmul, matmulName } from './variants.js';

export { matmulName, matmulVariants } from './variants.js';

/** Settings of `matmul`. */
export interface MatmulOptions {
  /** A is stored as [K,M]. */
  transposeA?: boolean;
  /** B is stored as [N,K], as the weights of linear layers are. */
  transposeB?: boolean;
  /** out += instead of = */
  accumulate?: boolean;
  /**
   * Computes only the lower triangle of a symmetric out, in about half the time; the upper triangle is undefined until
   * `symmetrize`. K is not split.
   */
  lower?: boolean;
  /** f32 [N], added to every row. */
  bias?: Tensor;
  /** Applied to the product and its bias, for a feed-forward block without a gate; default: none. */
  activation?: Activation;
  /** f32 [M,N], added after the activation; must not be out. */
  residual?: Tensor;
  /** @internal Replaces the default choice; one of `matmulVariants`. */
  variant?: MatmulChoice;
}

const matmulSettings = settings<MatmulOptions>({
  transposeA: optional(flag),
  transposeB: optional(flag),
  accumulate: optional(flag),
  lower: optional(flag),
  bias: maybeTensor,
  activation: optional(anActivation),
  residual: maybeTensor,
  variant: optional(aMatmulChoice),
});

/** Extents before the last two, of which there is a product for each. */
const batchOf = ({ shape }: Tensor): readonly number[] => shape.slice(0, -2);

/**
 * Products of the matrices in the last two dimensions: [B,M,K] with [B,K,N], or with one matrix for all on the left; one on
 * the right is an ordinary product. undefined where B has two dimensions.
 */
function batchedProduct(a: Tensor, b: Tensor): { count: number; ofA: number; ofB: number } | undefined {
  if (b.shape.length <= 2) return undefined;
  const count = batchOf(b).reduce((x, y) => x * y, 1);
  return {
    count,
    ofA: a.shape.length > 2 ? a.size / Math.max(1, count) : 0,
    ofB: b.size / Math.max(1, count),
  };
}

/**
 * Matrix product: out[M,N] = activation(op(A)[M,K] @ op(B)[K,N] (+ bias)) (+ residual) (+ out), accumulated in f32; A, B:
 * f32 | f16 | bf16, out f32. Leading dimensions of A and out count as rows where B is a matrix. Where B has three dimensions or
 * more, it is a batch of products: A has the same leading dimensions, or none, and so has out. It cannot transpose both
 * operands. The same inputs give the same bits on the same device.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit, or the variant does not run here.
 */
export function matmul(rec: Recorder, a: Tensor, b: Tensor, out: Tensor, options: MatmulOptions = {}): void {
  checkOperands('matmul', rec, { a, b, out });
  checkArguments('matmul', { options }, { options: matmulSettings });
  const {
    transposeA = false,
    transposeB = false,
    accumulate = false,
    lower = false,
    bias,
    activation,
    residual,
  } = options;
  const batch = batchedProduct(a, b);
  const rowsOf = (x: Tensor) => (batch && x.shape.length > 2 ? x.shape.at(-2)! : x.rowCount);
  const [m, k] = transposeA ? [a.columns, rowsOf(a)] : [rowsOf(a), a.columns];
  const [depthB, n] = transposeB ? [b.columns, rowsOf(b)] : [rowsOf(b), b.columns];
  const fail = (what: string, fix: string): never => {
    const [left, right] = [nameOperand(a, transposeA), nameOperand(b, transposeB)];
    throw new RmError('INVALID_ARGUMENT', `matmul of ${left} and ${right} ${what}`, fix);
  };
  if (transposeA && transposeB) fail('transposes both', 'Swap the operands and transpose the result.');
  if (k !== depthB) fail(`has inner extents ${k} and ${depthB}`, 'They must be equal.');
  const rows = batch ? batch.count * m : m;
  if (batch) {
    const batches = batchOf(b).join();
    if (a.shape.length > 2 && batchOf(a).join() !== batches)
      fail(`has batches [${batchOf(a)}] and [${batches}]`, 'They must be equal, or A a matrix.');
    if (batchOf(out).join() !== batches)
      fail(`into ${nameOperand(out)}`, `The output must be f32 [${batches},${m},${n}].`);
    if (lower) fail('has no lower triangle in a batch', 'Compute whole products.');
  }
  if (out.rowCount !== rows || out.columns !== n || out.dtype !== 'f32')
    fail(`into ${nameOperand(out)}`, `The output must be f32 [${batch ? `${batchOf(b)},` : ''}${m},${n}].`);
  if (bias && (bias.size !== n || bias.dtype !== 'f32'))
    fail(`with bias ${nameOperand(bias)}`, `The bias must be f32 [${n}].`);
  if (residual && (residual.rowCount !== rows || residual.columns !== n || residual.dtype !== 'f32'))
    fail(`with residual ${nameOperand(residual)}`, `The residual must be f32 [${rows},${n}].`);
  if (lower && m !== n) fail(`has no lower triangle in [${m},${n}]`, 'Use `lower` for square products only.');
  const dtypes = { a: operandType(a, fail), b: operandType(b, fail) };
  if (rows === 0 || n === 0) return;
  const shape = { m, n, k, transposeA, transposeB };
  const { device } = out;
  const { variant } = options;
  if (variant && (!canRunMatmul(device, variant, shape, dtypes) || (batch && !computesBatches(variant))))
    fail(`has no variant ${matmulName(variant)}`, 'Choose one that matmulVariants lists.');
  recordProduct(rec, {
    kernel: 'matmul',
    layout: {
      a: { dtype: dtypes.a, kContiguous: !transposeA, aligned: a.columns % 4 === 0 },
      b: { dtype: dtypes.b, kContiguous: transposeB, aligned: b.columns % 4 === 0 },
      oddK: k % 4 !== 0,
      vec4Out: n % 4 === 0,
      bias: bias !== undefined,
      ...(activation && { activation }),
      residual: residual !== undefined,
      accumulate,
      lower,
      partial: false,
      ...(batch && { batched: true }),
    },
    choice: variant ?? (batch ? batchedMatmul : defaultMatmul)(device, shape, dtypes),
    m,
    n,
    k,
    operands: [a, b],
    out,
    epilogue: [bias, residual].filter(tensor => tensor !== undefined),
    ...(batch && { batch: { count: batch.count, aStride: batch.ofA, bStride: batch.ofB } }),
  });
}
