import { programFamily, type Recorder, type Tensor } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor, type FloatType, floats } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { scalarTensor } from '../shared/wgsl.js';

/** The two learned parameters of a layer's xIELU, as checkpoints store them: [1], f32 | f16 | bf16. */
export interface XieluParameters {
  readonly alphaP: Tensor;
  readonly alphaN: Tensor;
}

/** `beta` of every published model. */
const BETA = '0.5';

/** What a program computes: the value, the gradient of x, also with the value, or the slope by a stored parameter. */
type Result = 'value' | 'gradient' | 'both' | 'alphaP' | 'alphaN';

const toGradient = /* wgsl */ `
  let slope = select(alphaN() * (exp(min(at, 0.0)) - 1.0), 2.0 * alphaP() * at, at > 0.0) + ${BETA};
  x[i] = gradient[i] * slope;`;

/** Tensors besides the parameters and x, and statements for element i. */
const results: Record<Result, { others: readonly ('gradient' | 'out')[]; body: string }> = {
  value: { others: [], body: 'x[i] = value(x[i]);' },
  gradient: { others: ['gradient'], body: `let at = x[i];${toGradient}` },
  both: { others: ['gradient', 'out'], body: `let at = x[i];\n  out[i] = value(at);${toGradient}` },
  // The slope of softplus is the sigmoid.
  alphaP: {
    others: ['out'],
    body: 'out[i] = select(0.0, square(x[i]), x[i] > 0.0) / (1.0 + exp(-alpha_p(0u)));',
  },
  alphaN: {
    others: ['out'],
    body: 'out[i] = select(curve(x[i]), 0.0, x[i] > 0.0) / (1.0 + exp(-alpha_n(0u)));',
  },
};

const program = programFamily((result: Result, dtypeP: FloatType, dtypeN: FloatType) =>
  flatProgram({
    key: `xielu ${result} ${dtypeP} ${dtypeN}`,
    bindings: [
      ...(['read', 'read', 'write'] as const),
      ...results[result].others.map(name => (name === 'out' ? ('write' as const) : ('read' as const))),
    ],
    declarations: /* wgsl */ `
${scalarTensor('alpha_p', 1, dtypeP)}
${scalarTensor('alpha_n', 2, dtypeN)}
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
${results[result].others
  .map(
    (name, n) =>
      `@group(0) @binding(${n + 4}) var<storage, ${name === 'out' ? 'read_write' : 'read'}> ${name}: array<f32>;`,
  )
  .join('\n')}
fn softplus(a: f32) -> f32 { return max(a, 0.0) + log(1.0 + exp(-abs(a))); }
fn alphaP() -> f32 { return softplus(alpha_p(0u)); }
fn alphaN() -> f32 { return ${BETA} + softplus(alpha_n(0u)); }
// Capped where the square would be infinite.
fn square(a: f32) -> f32 { let y = min(a, 1e18); return y * y; }
// exp(a) - 1 - a for a <= 0, by its series where that cancels.
fn curve(a: f32) -> f32 {
  let b = min(a, 0.0);
  let near = b * b * (0.5 + b / 6.0 * (1.0 + b / 4.0 * (1.0 + b / 5.0 * (1.0 + b / 6.0 * (1.0 + b / 7.0)))));
  return select(exp(b) - 1.0 - b, near, b > -0.5);
}
fn value(a: f32) -> f32 { return select(alphaN() * curve(a), alphaP() * square(a), a > 0.0) + ${BETA} * a; }`,
    body: `  ${results[result].body}`,
  }),
);

function record(
  rec: Recorder,
  result: Result,
  x: Tensor,
  { alphaP, alphaN }: XieluParameters,
  others: readonly Tensor[],
): void {
  checkOperands('xielu', rec, { x, alphaP, alphaN });
  const shape = checkMatrix('xielu', 'x', x);
  checkTensor('xielu', 'alphaP', alphaP, [1], floats);
  checkTensor('xielu', 'alphaN', alphaN, [1], floats);
  for (const [n, name] of results[result].others.entries()) checkTensor('xielu', name, others[n]!, shape);
  const types = [alphaP.dtype, alphaN.dtype] as [FloatType, FloatType];
  runFlat(rec, program(result, ...types), [alphaP, alphaN, x, ...others], x.size, [], {
    flops: 12 * x.size,
    bytes: 4 * x.size * (2 + others.length),
  });
}

/**
 * The activation xIELU in place, x [T,F] f32: alpha_p x^2 + x/2 above 0, alpha_n (exp(x) - 1 - x) + x/2 below, with alpha_p =
 * softplus(alphaP) and alpha_n = 1/2 + softplus(alphaN). Source: Huang, arXiv:2411.13010. @throws RmError INVALID_ARGUMENT.
 */
export function xielu(rec: Recorder, x: Tensor, parameters: XieluParameters): void {
  record(rec, 'value', x, parameters, []);
}

/** Backward pass of `xielu`: overwrites its input x [T,F] with its gradient; `features` [T,F] receives the forward result. */
export function xieluBackward(
  rec: Recorder,
  x: Tensor,
  gradient: Tensor,
  parameters: XieluParameters,
  features?: Tensor,
): void {
  if (features) record(rec, 'both', x, parameters, [gradient, features]);
  else record(rec, 'gradient', x, parameters, [gradient]);
}

/** The slope of each element of xIELU of x [T,F] by a stored parameter, into out [T,F]; all f32. */
export function xieluSlopeBy(
  rec: Recorder,
  name: keyof XieluParameters,
  x: Tensor,
  parameters: XieluParameters,
  out: Tensor,
): void {
  record(rec, name, x, parameters, [out]);
}
