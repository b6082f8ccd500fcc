import {
  checkArguments,
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
import { canRunGatedMatmul, defaultGatedMatmul, matmulName } from './variants.js';

export { gatedMatmulVariants } from './variants.js';

/** Settings of `gatedMatmul`. */
export interface GatedMatmulOptions {
  activation: Activation;
  /** f32 [F] */
  gateBias?: Tensor;
  /** f32 [F] */
  upBias?: Tensor;
  /** @internal Replaces the default choice; one of `gatedMatmulVariants`. */
  variant?: MatmulChoice;
}

const gatedSettings = settings<GatedMatmulOptions>({
  activation: anActivation,
  gateBias: maybeTensor,
  upBias: maybeTensor,
  variant: optional(aMatmulChoice),
});

/**
 * Gated feed-forward product: out[T,F] = activation(x[T,K] @ gate[F,K]^T (+ gateBias)) * (x @ up[F,K]^T (+ upBias)),
 * accumulated in f32; x, gate, up: f32 | f16 | bf16, out f32. Leading dimensions of x and out count as rows. The same
 * inputs give the same bits on the same device.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit, or the variant does not run here.
 */
export function gatedMatmul(
  rec: Recorder,
  x: Tensor,
  gate: Tensor,
  up: Tensor,
  out: Tensor,
  options: GatedMatmulOptions,
): void {
  checkOperands('gatedMatmul', rec, { x, gate, up, out });
  checkArguments('gatedMatmul', { options }, { options: gatedSettings });
  const { activation, gateBias, upBias, variant } = options;
  const { rowCount: m, columns: k } = x;
  const n = gate.rowCount;
  const fail = (what: string, fix: string): never => {
    const operands = `${nameOperand(x)}, gate ${nameOperand(gate)} and up ${nameOperand(up)}`;
    throw new RmError('INVALID_ARGUMENT', `gatedMatmul of ${operands} ${what}`, fix);
  };
  if (gate.columns !== k) fail(`has inner extents ${k} and ${gate.columns}`, 'They must be equal.');
  if (up.rowCount !== n || up.columns !== k) fail('has two shapes', `Gate and up must both be [${n},${k}].`);
  if (out.rowCount !== m || out.columns !== n || out.dtype !== 'f32')
    fail(`into ${nameOperand(out)}`, `The output must be f32 [${m},${n}].`);
  for (const bias of [gateBias, upBias]) {
    if (bias && (bias.size !== n || bias.dtype !== 'f32'))
      fail(`with bias ${nameOperand(bias)}`, `The biases must be f32 [${n}].`);
  }
  const operand = (tensor: Tensor) => ({
    dtype: operandType(tensor, fail),
    kContiguous: true,
    aligned: k % 4 === 0,
  });
  const [a, b, second] = [operand(x), operand(gate), operand(up)];
  if (m === 0 || n === 0) return;
  const { device } = out;
  const types = [a.dtype, b.dtype, second.dtype] as const;
  if (variant && !canRunGatedMatmul(device, variant, m, types))
    fail(`has no variant ${matmulName(variant)}`, 'Choose one that gatedMatmulVariants lists.');
  recordProduct(rec, {
    kernel: 'gatedMatmul',
    layout: {
      a,
      b,
      gated: { up: second, activation, upBias: upBias !== undefined },
      oddK: k % 4 !== 0,
      vec4Out: n % 4 === 0,
      bias: gateBias !== undefined,
      residual: false,
      accumulate: false,
      partial: false,
    },
    choice: variant ?? defaultGatedMatmul(device, { m, n, k }, types),
    m,
    n,
    k,
    operands: [x, gate, up],
    out,
    epilogue: [gateBias, upBias].filter(tensor => tensor !== undefined),
  });
}
