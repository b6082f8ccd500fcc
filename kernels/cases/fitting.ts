import { tensorFrom } from '../../engine/index.js';
import { type AdamOptions, adam } from '../elementwise/adam.js';
import { scaleRows } from '../map/named.js';
import { normDivisors } from '../norms/normDivisors.js';
import { cosineLoss } from '../reductions/cosineLoss.js';
import { tokenRoots } from '../reductions/tokenRoots.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';

type Shape = readonly [rows: number, columns: number];

function scaleRowsCase([rows, columns]: Shape, bench = false): KernelCase {
  const size = rows * columns;
  return {
    kernel: 'scaleRows',
    name: `${rows}x${columns}`,
    flops: size,
    bytes: 8 * size,
    bench,
    tolerance: 1e-7,
    async setup(scope) {
      const x = await caseTensor(scope, normals(size, 1), [rows, columns]);
      const weights = await caseTensor(scope, normals(rows, 2), [rows]);
      const output = scope.tensor([rows, columns]);
      return {
        run: rec => scaleRows(rec, x.tensor, weights.tensor, output),
        output,
        reference: () => ({
          expected: Float64Array.from(
            x.values,
            (value, i) => value * weights.values[Math.floor(i / columns)]!,
          ),
        }),
      };
    },
  };
}

/** sqrt(w) of every token, w = weight over its largest norm; sinks by sorting for the median. */
function tokenRootsCase([layers, tokens]: Shape, sinkFactor?: number): KernelCase {
  const size = layers * tokens;
  const weight = 0.75;
  return {
    kernel: 'tokenRoots',
    name: `${layers}x${tokens}${sinkFactor === undefined ? '' : `, sinks ${sinkFactor}`}`,
    flops: size,
    bytes: 4 * (size + tokens),
    bench: false,
    tolerance: 1e-6,
    async setup(scope) {
      // Every fifth token is massive, and the third is zero in all layers.
      const values = normals(size, 1).map((value, i) =>
        i % tokens === 2 ? 0 : (Math.abs(value) + 0.1) * (i % 5 === 4 ? 100 : 1),
      );
      const norms = await caseTensor(scope, values, [layers, tokens]);
      const positions = Uint32Array.from({ length: tokens }, (_, t) => t % 13);
      const positionTensor = scope.own(tensorFrom(scope.device, positions));
      const output = scope.tensor([tokens]);
      return {
        run: rec =>
          tokenRoots(rec, norms.tensor, output, {
            weight,
            ...(sinkFactor !== undefined && { sinks: { positions: positionTensor, weight: sinkFactor } }),
          }),
        output,
        reference() {
          const median = [...norms.values].sort((a, b) => a - b)[Math.floor(tokens / 2)]!;
          const expected = Float64Array.from({ length: tokens }, (_, t) => {
            const largest = Math.max(
              ...Array.from({ length: layers }, (_, l) => norms.values[l * tokens + t]!),
            );
            const isSink = sinkFactor !== undefined && (positions[t] === 0 || largest > 10 * median);
            return largest > 0 ? Math.sqrt((weight * (isSink ? sinkFactor : 1)) / largest) : 0;
          });
          return { expected };
        },
      };
    },
  };
}

function normDivisorsCase(rows: number): KernelCase {
  const options = { columns: 48, eps: 1e-5, scale: 0.5 };
  return {
    kernel: 'normDivisors',
    name: `${rows}`,
    flops: 4 * rows,
    bytes: 8 * rows,
    bench: false,
    tolerance: 1e-6,
    async setup(scope) {
      const lengths = await caseTensor(scope, normals(rows, 1).map(Math.abs), [rows]);
      const output = scope.tensor([rows]);
      return {
        run: rec => normDivisors(rec, lengths.tensor, output, options),
        output,
        reference: () => ({
          expected: Float64Array.from(
            lengths.values,
            length => options.scale / Math.sqrt(length ** 2 / options.columns + options.eps),
          ),
        }),
      };
    },
  };
}

/** Parameters after one step in f64, by algorithm 1 of the paper. */
function adamF64(
  [p, g, m, v]: readonly [p: number, g: number, m: number, v: number],
  options: AdamOptions,
): number {
  const { learningRate, step, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, l1 = 0, l2 = 0 } = options;
  const { weightDecay = 0, gradientScale = 1 } = options;
  const slope = gradientScale * g + l1 * Math.sign(p) + 2 * l2 * p;
  const first = (beta1 * m + (1 - beta1) * slope) / (1 - beta1 ** step);
  const second = (beta2 * v + (1 - beta2) * slope * slope) / (1 - beta2 ** step);
  return (1 - learningRate * weightDecay) * p - (learningRate * first) / (Math.sqrt(second) + epsilon);
}

/** With `working`, the case checks the copy of the updated parameters. */
function adamCase(
  [rows, columns]: Shape,
  options: AdamOptions,
  { working, bench = false }: { working?: 'f16' | 'bf16'; bench?: boolean } = {},
): KernelCase {
  const size = rows * columns;
  const { l1, l2, weightDecay, gradientScale } = options;
  return {
    kernel: 'adam',
    name: `${rows}x${columns}, step ${options.step}${l1 || l2 ? `, l1 ${l1}, l2 ${l2}` : ''}${weightDecay ? `, decay ${weightDecay}, gradient x ${gradientScale}` : ''}${working ? `, copy ${working}` : ''}`,
    flops: 16 * size,
    bytes: 28 * size,
    bench,
    // Half an ulp of the copy.
    tolerance: working ? (working === 'f16' ? 2 ** -11 : 2 ** -8) : 1e-7,
    async setup(scope) {
      const shape = [rows, columns];
      const p = await caseTensor(scope, normals(size, 1), shape);
      const g = await caseTensor(scope, normals(size, 2), shape);
      const m = await caseTensor(scope, normals(size, 3), shape);
      const v = await caseTensor(
        scope,
        normals(size, 4).map(value => value * value),
        shape,
      );
      const [parameters, firstMoment, secondMoment] = [0, 1, 2].map(() => scope.tensor(shape));
      const tensors = {
        parameters: parameters!,
        gradient: g.tensor,
        firstMoment: firstMoment!,
        secondMoment: secondMoment!,
        working: working && scope.tensor(shape, working),
      };
      return {
        run(rec) {
          rec.copy(p.tensor, tensors.parameters);
          rec.copy(m.tensor, tensors.firstMoment);
          rec.copy(v.tensor, tensors.secondMoment);
          adam(rec, tensors, options);
        },
        output: tensors.working ?? tensors.parameters,
        reference: () => ({
          expected: Float64Array.from(p.values, (value, i) =>
            adamF64([value, g.values[i]!, m.values[i]!, v.values[i]!], options),
          ),
        }),
      };
    },
  };
}

/** Loss and gradient of cosineLoss in f64, from the definition. */
export function cosineLossF64(
  outputs: ArrayLike<number>,
  targets: ArrayLike<number>,
  [rows, columns]: Shape,
): { loss: Float64Array; gradient: Float64Array } {
  const loss = new Float64Array(rows);
  const gradient = new Float64Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    let [dot, p2, d2] = [0, 0, 0];
    for (let at = row * columns; at < (row + 1) * columns; at++) {
      dot += outputs[at]! * targets[at]!;
      p2 += outputs[at]! ** 2;
      d2 += targets[at]! ** 2;
    }
    const p = Math.max(Math.sqrt(p2), 1e-8);
    const d = Math.max(Math.sqrt(d2), 1e-8);
    const cosine = dot / (p * d);
    loss[row] = 1 - cosine;
    // Within eps of zero the norm of p is a constant.
    const turning = Math.sqrt(p2) > 1e-8 ? cosine / (p * p) : 0;
    for (let at = row * columns; at < (row + 1) * columns; at++) {
      gradient[at] = (turning * outputs[at]! - targets[at]! / (p * d)) / rows;
    }
  }
  return { loss, gradient };
}

interface Cosine {
  shape: Shape;
  /** Targets are outputs + noise * normal numbers. */
  noise: number;
  spread?: number;
  /** Some rows of one or both are zero. */
  zeros?: boolean;
  bench?: boolean;
}

function cosineLossCases({ shape, noise, spread = 1, zeros = false, bench = false }: Cosine): KernelCase[] {
  const [rows, columns] = shape;
  const size = rows * columns;
  const zero = (i: number, every: number) => zeros && Math.floor(i / columns) % every === 0;
  const suffix = `${spread === 1 ? '' : `, values of ${spread}`}${zeros ? ', zero rows' : ''}`;
  return (['loss', 'gradient'] as const).map(part => ({
    kernel: 'cosineLoss',
    name: `${rows}x${columns}, noise ${noise}${suffix}: ${part}`,
    flops: 18 * size,
    bytes: 12 * size,
    bench: bench && part === 'gradient',
    // The error of the loss is a few ulp of 1 even if it is small; that of the gradient is relative to `noise`.
    tolerance: part === 'loss' ? 3e-7 : 3e-7 / Math.min(1, noise),
    async setup(scope) {
      const [x, y] = [normals(size, 1), normals(size, 2)];
      const p = await caseTensor(
        scope,
        x.map((value, i) => (zero(i, 2) ? 0 : value * spread)),
        shape,
      );
      const d = await caseTensor(
        scope,
        x.map((value, i) => (zero(i, 3) ? 0 : (value + noise * y[i]!) * spread)),
        shape,
      );
      const outputs = { loss: scope.tensor([rows]), gradient: scope.tensor(shape) };
      return {
        run: rec => cosineLoss(rec, p.tensor, d.tensor, outputs.loss, outputs.gradient),
        output: outputs[part],
        reference: () => ({
          expected: cosineLossF64(p.values, d.values, shape)[part],
          // The gradient of a single column is zero.
          ...(part === 'loss' || columns === 1 ? { scale: Math.sqrt(rows) } : {}),
        }),
      };
    },
  }));
}

export const fittingCases: readonly KernelCase[] = [
  scaleRowsCase([1, 1]),
  scaleRowsCase([7, 129]),
  scaleRowsCase([129, 576], true),
  tokenRootsCase([1, 1]),
  tokenRootsCase([7, 129]),
  tokenRootsCase([1, 7], 0.5),
  tokenRootsCase([1, 1000], 3),
  normDivisorsCase(129),
  adamCase([1, 1], { learningRate: 0.1, step: 1 }),
  adamCase([7, 129], { learningRate: 1e-2, step: 3, l1: 0.3, l2: 0.2 }),
  adamCase(
    [129, 576],
    { learningRate: 1e-2, step: 1000, beta1: 0.8, beta2: 0.99, epsilon: 1e-3 },
    { bench: true },
  ),
  adamCase([7, 129], { learningRate: 0.1, step: 7, weightDecay: 0.1, gradientScale: 0.3 }),
  adamCase(
    [7, 129],
    { learningRate: 0.1, step: 7, weightDecay: 0.1, gradientScale: 0.3 },
    { working: 'f16' },
  ),
  adamCase(
    [8, 128],
    { learningRate: 0.1, step: 7, weightDecay: 0.1, gradientScale: 0.3 },
    { working: 'bf16' },
  ),
  ...cosineLossCases({ shape: [1, 1], noise: 0.5 }),
  ...cosineLossCases({ shape: [7, 129], noise: 10 }),
  ...cosineLossCases({ shape: [129, 576], noise: 0.3, bench: true }),
  ...cosineLossCases({ shape: [7, 1000], noise: 1e-2 }),
  ...cosineLossCases({ shape: [7, 576], noise: 0.1, spread: 1e15 }),
  ...cosineLossCases({ shape: [8, 129], noise: 0.1, zeros: true }),
];
