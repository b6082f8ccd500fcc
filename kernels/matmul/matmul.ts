import { type Recorder, RmError, type Tensor } from '../../engine/index.js';
import type { Activation } from '../elementwise/activation.js';
import type { MatmulChoice } from './builtInChoice.js';
import { nameOperand, operandType, recordProduct } from './recordProduct.js';
import { canRunMatmul, defaultMatmul, matmulName } from './variants.js';

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
   * out is symmetric: only its lower triangle is sure to be computed, in about half the time; `symmetrize` gives the
   * rest. K is not split.
   */
  lower?: boolean;
  /** f32 [N], added to every row */
  bias?: Tensor;
  /** Of the product and its bias (default: none): a feed-forward block without a gate. */
  activation?: Activation;
  /** f32 [M,N], added; another tensor than out */
  residual?: Tensor;
  /** Instead of the choice of tuning.ts; one of `matmulVariants`. */
  variant?: MatmulChoice;
}

/**
 * out[M,N] = op(A)[M,K] @ op(B)[K,N] (+ bias) (+ residual) (+ out), the product and bias through `activation` where
 * there is one. A, B: f32 | f16 | bf16, out f32, f32 accumulation.
 * Leading dimensions of A and out are rows. Transposing both operands is not supported. The same inputs give the same
 * bits on the same device.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit, or the variant does not run here.
 */
export function matmul(rec: Recorder, a: Tensor, b: Tensor, out: Tensor, options: MatmulOptions = {}): void {
  const {
    transposeA = false,
    transposeB = false,
    accumulate = false,
    lower = false,
    bias,
    activation,
    residual,
  } = options;
  const [m, k] = transposeA ? [a.columns, a.rowCount] : [a.rowCount, a.columns];
  const [depthB, n] = transposeB ? [b.columns, b.rowCount] : [b.rowCount, b.columns];
  const fail = (what: string, fix: string): never => {
    const [left, right] = [nameOperand(a, transposeA), nameOperand(b, transposeB)];
    throw new RmError('INVALID_ARGUMENT', `matmul of ${left} and ${right} ${what}`, fix);
  };
  if (transposeA && transposeB) fail('transposes both', 'Swap the operands and transpose the result.');
  if (k !== depthB) fail(`has inner extents ${k} and ${depthB}`, 'They must be equal.');
  if (out.rowCount !== m || out.columns !== n || out.dtype !== 'f32')
    fail(`into ${nameOperand(out)}`, `The output must be f32 [${m},${n}].`);
  if (bias && (bias.size !== n || bias.dtype !== 'f32'))
    fail(`with bias ${nameOperand(bias)}`, `The bias must be f32 [${n}].`);
  if (residual && (residual.rowCount !== m || residual.columns !== n || residual.dtype !== 'f32'))
    fail(`with residual ${nameOperand(residual)}`, `The residual must be f32 [${m},${n}].`);
  if (lower && m !== n) fail(`has no lower triangle in [${m},${n}]`, 'Ask for all of it.');
  const dtypes = { a: operandType(a, fail), b: operandType(b, fail) };
  if (m === 0 || n === 0) return;
  const shape = { m, n, k, transposeA, transposeB };
  const { device } = out;
  const { variant } = options;
  if (variant && !canRunMatmul(device, variant, shape, dtypes))
    fail(`has no variant ${matmulName(variant)}`, 'Take one of those that matmulVariants lists for it.');
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
    },
    choice: variant ?? defaultMatmul(device, shape, dtypes),
    m,
    n,
    k,
    operands: [a, b],
    out,
    epilogue: [bias, residual].filter(tensor => tensor !== undefined),
  });
}
