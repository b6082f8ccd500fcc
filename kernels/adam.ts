/**
 * One step of Adam, in place:
 *   g = gradient + l1 sign(p) + 2 l2 p
 *   m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2
 *   p = p - learningRate (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon)
 *
 * Shapes: parameters, gradient, both moments: f32 of one shape; they may be larger than a binding. Both moments begin
 * at zero. The two terms of g are the gradients of l1 |p|_1 and l2 |p|^2; torch.optim.Adam's weight_decay is 2 l2.
 * Map: one invocation per vec4 (per element where the size is no multiple of 4), 64 per workgroup.
 * Features and limits: WebGPU defaults.
 * Source: Kingma and Ba, Adam: A Method for Stochastic Optimization (arXiv:1412.6980), algorithm 1.
 */
import {
  ensure,
  f32Bits,
  type ProgramSpec,
  programFamily,
  type Recorder,
  type Tensor,
} from '../engine/index.js';
import { checkTensor } from './checks.js';
import { flatProgram, flatType, runFlat } from './flat.js';
import { rowTiles } from './rowTiles.js';

/** Settings of one Adam step. */
export interface AdamOptions {
  learningRate: number;
  /** From 1. */
  step: number;
  /** Default 0.9. */
  beta1?: number;
  /** Default 0.999. */
  beta2?: number;
  /** Default 1e-8. */
  epsilon?: number;
  /** Weight of the sum of absolute values in the objective; default 0. */
  l1?: number;
  /** Weight of the sum of squares in the objective; default 0. */
  l2?: number;
}

/** What a step reads and writes; f32 of one shape. */
export interface AdamTensors {
  parameters: Tensor;
  gradient: Tensor;
  /** m and v of the steps before, zero at first. */
  firstMoment: Tensor;
  secondMoment: Tensor;
}

const program = programFamily(
  (type: 'vec4f' | 'f32'): ProgramSpec =>
    flatProgram({
      key: `adam ${type}`,
      bindings: ['write', 'read', 'write', 'write'],
      fields: 'stepSize: f32, unbias: f32, rate1: f32, rate2: f32, epsilon: f32, l1: f32, l2: f32',
      declarations: `
@group(0) @binding(1) var<storage, read_write> parameters: array<${type}>;
@group(0) @binding(2) var<storage, read> gradient: array<${type}>;
@group(0) @binding(3) var<storage, read_write> first: array<${type}>;
@group(0) @binding(4) var<storage, read_write> second: array<${type}>;`,
      body: `
  let value = parameters[i];
  let g = gradient[i] + p.l1 * sign(value) + 2.0 * p.l2 * value;
  let m = first[i] + p.rate1 * (g - first[i]);
  let v = second[i] + p.rate2 * (g * g - second[i]);
  first[i] = m;
  second[i] = v;
  parameters[i] = value - p.stepSize * m / (sqrt(v) * p.unbias + p.epsilon);`,
    }),
);

/**
 * One step of Adam: parameters and both moments are updated, the gradient is read.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit, or `step` is no integer from 1.
 */
export function adam(
  rec: Recorder,
  { parameters, gradient, firstMoment, secondMoment }: AdamTensors,
  { learningRate, step, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, l1 = 0, l2 = 0 }: AdamOptions,
): void {
  const { shape, size } = parameters;
  const tensors = { parameters, gradient, firstMoment, secondMoment };
  for (const [name, tensor] of Object.entries(tensors)) checkTensor('adam', name, tensor, shape);
  ensure(Number.isInteger(step) && step >= 1, `adam: step ${step}`, 'Count steps from 1.');
  const params = [
    learningRate / (1 - beta1 ** step),
    1 / Math.sqrt(1 - beta2 ** step),
    ...[1 - beta1, 1 - beta2, epsilon, l1, l2],
  ].map(f32Bits);
  const { type, width } = flatType(size);
  const flat = Object.values(tensors).map(tensor => tensor.reshape([size, 1]));
  for (const { start, tensor } of rowTiles(flat[0]!)) {
    const count = tensor.size;
    const bound = flat.map(whole => whole.rows(start, count));
    runFlat(rec, program(type), bound, count / width, params, { flops: 16 * count, bytes: 28 * count });
  }
}
