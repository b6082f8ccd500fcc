import {
  checkArguments,
  numeric,
  optional,
  type Recorder,
  RmError,
  settings,
  type Tensor,
} from '../../engine/index.js';
import { type Activation, anActivation } from '../shared/activation.js';
import { checkOperands, maybeTensor } from '../shared/checks.js';
import { rowTiles, tileRows } from '../shared/rowTiles.js';
import { aMatmulChoice, type MatmulChoice } from './builtInChoice.js';
import type { MatmulLayout } from './commonWgsl.js';
import type { FactorTypes } from './matrixTiles.js';
import { nameOperand, operandType, recordProduct } from './recordProduct.js';
import { groupedChoice } from './variants.js';

/** Settings of `groupedMatmul`. */
export interface GroupedMatmulOptions {
  /** f32 [G,N] */
  bias?: Tensor;
  /** @internal Replaces the default choice; one of `groupedVariants`. */
  variant?: MatmulChoice;
}

/** Settings of `groupedGatedMatmul`. */
export interface GroupedGatedOptions {
  activation: Activation;
  /** f32 [G,F] */
  gateBias?: Tensor;
  /** f32 [G,F] */
  upBias?: Tensor;
  /** Clamps the products: gate to at most this, up to within it; and adds 1 to up (gpt-oss). */
  limit?: number;
  /** @internal Replaces the default choice; one of `groupedVariants`. */
  variant?: MatmulChoice;
}

const productSettings = settings<GroupedMatmulOptions>({
  bias: maybeTensor,
  variant: optional(aMatmulChoice),
});
const gatedSettings = settings<GroupedGatedOptions>({
  activation: anActivation,
  gateBias: maybeTensor,
  upBias: maybeTensor,
  limit: optional(numeric),
  variant: optional(aMatmulChoice),
});

/**
 * Products of groups of rows with a matrix for each: out[r] = x[r] @ weights[g]^T (+ bias[g]) for the rows r of group g, which
 * `begins` [G + 1] u32 says: where each group begins, and where the last one ends. x [R,K], weights [G*N,K], out f32 [R,N].
 * Rows in no group stay as they are. Nothing is computed for groups without rows. The weights may be larger than a binding.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function groupedMatmul(
  rec: Recorder,
  x: Tensor,
  weights: Tensor,
  begins: Tensor,
  out: Tensor,
  options: GroupedMatmulOptions = {},
): void {
  checkOperands('groupedMatmul', rec, { x, weights, begins, out });
  checkArguments('groupedMatmul', { options }, { options: productSettings });
  const { bias, variant } = options;
  record(rec, 'matmul', x, [weights], begins, out, variant, {
    layout: { bias: bias !== undefined },
    epilogue: [bias],
  });
}

/**
 * Gated products of groups of rows, like `groupedMatmul`: out[r] = activation(x[r] @ gate[g]^T (+ gateBias[g])) * (x[r] @
 * up[g]^T (+ upBias[g])); gate, up [G*F,K], out f32 [R,F]. @throws RmError INVALID_ARGUMENT.
 */
export function groupedGatedMatmul(
  rec: Recorder,
  x: Tensor,
  gate: Tensor,
  up: Tensor,
  begins: Tensor,
  out: Tensor,
  options: GroupedGatedOptions,
): void {
  checkOperands('groupedGatedMatmul', rec, { x, gate, up, begins, out });
  checkArguments('groupedGatedMatmul', { options }, { options: gatedSettings });
  const { activation, gateBias, upBias, limit, variant } = options;
  record(rec, 'gatedMatmul', x, [gate, up], begins, out, variant, {
    layout: { bias: gateBias !== undefined },
    gated: { activation, upBias: upBias !== undefined, ...(limit !== undefined && { limited: true }) },
    limit,
    epilogue: [gateBias, upBias],
  });
}

/** What differs between a product and a gated one. */
interface Ending {
  readonly layout: Pick<MatmulLayout, 'bias'>;
  readonly gated?: Omit<NonNullable<MatmulLayout['gated']>, 'up'>;
  readonly limit?: number | undefined;
  readonly epilogue: readonly (Tensor | undefined)[];
}

function record(
  rec: Recorder,
  kernel: 'matmul' | 'gatedMatmul',
  x: Tensor,
  factors: readonly Tensor[],
  begins: Tensor,
  out: Tensor,
  variant: MatmulChoice | undefined,
  { layout, gated, limit, epilogue }: Ending,
): void {
  const name = gated ? 'groupedGatedMatmul' : 'groupedMatmul';
  const fail = (what: string, fix: string): never => {
    const operands = [x, ...factors].map(tensor => nameOperand(tensor)).join(' and ');
    throw new RmError('INVALID_ARGUMENT', `${name} of ${operands} ${what}`, fix);
  };
  const { rowCount: m, columns: k } = x;
  const { columns: n } = out;
  const count = begins.size - 1;
  const rows = count * n;
  if (begins.dtype !== 'u32' || count < 1)
    fail(`has groups ${nameOperand(begins)}`, 'They must be u32 [groups + 1].');
  for (const factor of factors) {
    if (factor.columns !== k || factor.rowCount !== rows)
      fail(`for ${count} groups into ${nameOperand(out)}`, `The weights must be [${rows},${k}].`);
  }
  if (out.rowCount !== m || out.dtype !== 'f32')
    fail(`into ${nameOperand(out)}`, `The output must be f32 [${m},${n}].`);
  const added = epilogue.filter(tensor => tensor !== undefined);
  for (const bias of added) {
    if (bias.size !== rows || bias.dtype !== 'f32')
      fail(`with bias ${nameOperand(bias)}`, `The biases must be f32 [${count},${n}].`);
  }
  const operand = (tensor: Tensor) => ({
    dtype: operandType(tensor, fail),
    kContiguous: true,
    aligned: k % 4 === 0,
  });
  const [left, ...right] = [x, ...factors].map(operand);
  if (m === 0 || n === 0) return;
  const perGroup = Math.ceil(m / count);
  const types = [left!, ...right].map(({ dtype }) => dtype) as unknown as FactorTypes;
  const choice = variant ?? groupedChoice(out.device, { m: perGroup, n, k }, types);
  const matrices = factors.map(factor => factor.reshape([count, n * k]));
  const together = Math.min(...matrices.map(matrix => tileRows(matrix)));
  const tiles = matrices.map(matrix => rowTiles(matrix, together));
  for (const [i, { start, tensor }] of tiles[0]!.entries()) {
    recordProduct(rec, {
      kernel,
      layout: {
        a: left!,
        b: right[0]!,
        ...(gated && { gated: { ...gated, up: right[1]! } }),
        oddK: k % 4 !== 0,
        vec4Out: n % 4 === 0,
        ...layout,
        residual: false,
        accumulate: false,
        partial: false,
        grouped: true,
      },
      ...{ choice, m, n, k, out },
      operands: [x, ...tiles.map(of => of[i]!.tensor)],
      epilogue: added,
      groups: { begins, count, rows: perGroup, first: start, end: start + tensor.rowCount },
      ...(limit !== undefined && { limit }),
    });
  }
}
