import {
  checkArguments,
  ensure,
  f32Bits,
  numeric,
  type ProgramSpec,
  programFamily,
  type Recorder,
  settings,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { convert } from '../map/named.js';
import { aTensor, checkOperands, checkTensor, floats, maybeNumber, maybeTensor } from '../shared/checks.js';
import { flatProgram, flatType, runFlat } from '../shared/flat.js';
import { rowTiles } from '../shared/rowTiles.js';

/** Settings of one Adam step. */
export interface AdamOptions {
  learningRate: number;
  /** Number of this step, counted from 1. */
  step: number;
  /** Default 0.9. */
  beta1?: number;
  /** Default 0.999. */
  beta2?: number;
  /** Default 1e-8. */
  epsilon?: number;
  /** Weight of the parameters' sum of absolute values in the objective; default 0. */
  l1?: number;
  /** Weight of the parameters' sum of squares in the objective; default 0. */
  l2?: number;
  /** Weight decay, decoupled from the gradient as in AdamW; default 0. */
  weightDecay?: number;
  /** Factor of the gradient, e.g. to clip its norm; default 1. */
  gradientScale?: number;
}

/** The tensors that `adam` reads and updates: all of one shape, f32 except `working`. */
export interface AdamTensors {
  parameters: Tensor;
  gradient: Tensor;
  /** Running mean m of the gradient; zeros before the first step. */
  firstMoment: Tensor;
  /** Running mean v of the squared gradient; zeros before the first step. */
  secondMoment: Tensor;
  /** f32, f16 or bf16: receives a copy of the updated parameters, which are its master values. */
  working?: Tensor | undefined;
}

const adamSettings = settings<AdamOptions>({
  learningRate: numeric,
  step: whole(1),
  beta1: maybeNumber,
  beta2: maybeNumber,
  epsilon: maybeNumber,
  l1: maybeNumber,
  l2: maybeNumber,
  weightDecay: maybeNumber,
  gradientScale: maybeNumber,
});
const adamTensors = settings<AdamTensors>({
  parameters: aTensor,
  gradient: aTensor,
  firstMoment: aTensor,
  secondMoment: aTensor,
  working: maybeTensor,
});

const program = programFamily(
  (type: 'vec4f' | 'f32'): ProgramSpec =>
    flatProgram({
      key: `adam ${type}`,
      bindings: ['write', 'read', 'write', 'write'],
      fields:
        'stepSize: f32, unbias: f32, rate1: f32, rate2: f32, epsilon: f32, l1: f32, l2: f32, keep: f32, gradientScale: f32',
      declarations: `
@group(0) @binding(1) var<storage, read_write> parameters: array<${type}>;
@group(0) @binding(2) var<storage, read> gradient: array<${type}>;
@group(0) @binding(3) var<storage, read_write> first: array<${type}>;
@group(0) @binding(4) var<storage, read_write> second: array<${type}>;`,
      body: `
  let value = parameters[i];
  let g = p.gradientScale * gradient[i] + p.l1 * sign(value) + 2.0 * p.l2 * value;
  let m = first[i] + p.rate1 * (g - first[i]);
  let v = second[i] + p.rate2 * (g * g - second[i]);
  first[i] = m;
  second[i] = v;
  parameters[i] = p.keep * value - p.stepSize * m / (sqrt(v) * p.unbias + p.epsilon);`,
    }),
);

/**
 * Takes one step of Adam: updates parameters, both moments and `working` from the gradient.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit, or `step` is not an integer of at least 1.
 */
export function adam(rec: Recorder, tensors: AdamTensors, options: AdamOptions): void {
  checkOperands('adam', rec, {});
  checkArguments('adam', { tensors, options }, { tensors: adamTensors, options: adamSettings });
  const { working, ...updated } = tensors;
  const { learningRate, step, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, l1 = 0, l2 = 0 } = options;
  const { weightDecay = 0, gradientScale = 1 } = options;
  const { shape, size } = tensors.parameters;
  for (const [name, tensor] of Object.entries(updated)) checkTensor('adam', name, tensor, shape);
  if (working) checkTensor('adam', 'working', working, shape, floats);
  ensure(Number.isInteger(step) && step >= 1, `adam: step ${step}`, 'Count steps from 1.');
  const params = [
    learningRate / (1 - beta1 ** step),
    1 / Math.sqrt(1 - beta2 ** step),
    ...[1 - beta1, 1 - beta2, epsilon, l1, l2, 1 - learningRate * weightDecay, gradientScale],
  ].map(f32Bits);
  const { type, width } = flatType(size);
  const { parameters, gradient, firstMoment, secondMoment } = updated;
  const flat = [parameters, gradient, firstMoment, secondMoment].map(tensor => tensor.reshape([size, 1]));
  const flatWorking = working?.reshape([size, 1]);
  for (const { start, tensor } of rowTiles(flat[0]!)) {
    const count = tensor.size;
    const bound = flat.map(whole => whole.rows(start, count));
    runFlat(rec, program(type), bound, count / width, params, { flops: 16 * count, bytes: 28 * count });
    if (flatWorking) convert(rec, bound[0]!, flatWorking.rows(start, count));
  }
}
