import { type Recorder, type Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { activationBackward, gatedActivationBackward } from '../elementwise/activationBackward.js';
import { rope, ropeTable } from '../embedding/rope.js';
import { embeddingBackward } from '../layout/scatterAddRows.js';
import { layerNormBackward, rmsNormBackward } from '../norms/normBackward.js';
import { addSquaredNorm, columnSums } from '../reduce/named.js';
import type { Activation } from '../shared/activation.js';
import type { FloatType } from '../shared/checks.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';

type Shape = readonly [rows: number, columns: number];

/** A tensor filled with `value`, to which a kernel accumulates. */
const begin = (scope: Scope, shape: readonly number[], value: number): Tensor =>
  scope.own(tensorFrom(scope.device, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value), shape));

function columnSumsCase([rows, columns]: Shape, accumulate: boolean, bench = false): KernelCase {
  return {
    kernel: 'columnSums',
    name: `${rows}x${columns}${accumulate ? ' + out' : ''}`,
    flops: rows * columns,
    bytes: 4 * rows * columns,
    bench,
    tolerance: 1e-6,
    async setup(scope) {
      const x = await caseTensor(scope, normals(rows * columns), [rows, columns]);
      const output = begin(scope, [columns], 2);
      return {
        run: rec => columnSums(rec, x.tensor, output, { accumulate }),
        output,
        reference() {
          const expected = new Float64Array(columns).fill(accumulate ? 2 : 0);
          x.values.forEach((value, i) => {
            expected[i % columns]! += value;
          });
          return { expected, scale: Math.sqrt(rows * columns) };
        },
      };
    },
  };
}

interface NormShape {
  kind: 'rms' | 'layer';
  shape: Shape;
  dtype: FloatType;
  /** Added to every x. */
  mean?: number;
  offset?: number;
  accumulate?: boolean;
  bench?: boolean;
}

/** dx, dweight and dbias of sum(gradient * norm(x)) in f64. */
function normGradientsF64(
  { kind, shape: [rows, columns], offset = 0 }: NormShape,
  [x, weight, gradient]: readonly ArrayLike<number>[],
  eps: number,
) {
  const input = new Float64Array(rows * columns);
  const [dWeight, dBias] = [new Float64Array(columns), new Float64Array(columns)];
  for (let first = 0; first < rows * columns; first += columns) {
    const row = (values: ArrayLike<number>) =>
      Float64Array.from({ length: columns }, (_, j) => values[first + j]!);
    const sum = (values: Float64Array) => values.reduce((a, b) => a + b, 0);
    const g = row(gradient!);
    const mean = kind === 'layer' ? sum(row(x!)) / columns : 0;
    const centred = row(x!).map(value => value - mean);
    const factor = 1 / Math.sqrt(sum(centred.map(value => value * value)) / columns + eps);
    const normed = centred.map(value => value * factor);
    const a = g.map((value, j) => value * (weight![j]! + offset));
    const meanA = kind === 'layer' ? sum(a) / columns : 0;
    const meanProduct = sum(a.map((value, j) => value * normed[j]!)) / columns;
    for (let j = 0; j < columns; j++) {
      input[first + j] = factor * (a[j]! - meanA - normed[j]! * meanProduct);
      dWeight[j]! += g[j]! * normed[j]!;
      dBias[j]! += g[j]!;
    }
  }
  return { input, weight: dWeight, bias: dBias };
}

function normBackwardCase(item: NormShape, result: 'input' | 'weight' | 'bias'): KernelCase {
  const { kind, shape, dtype, mean = 0, offset = 0, accumulate = false, bench = false } = item;
  const [rows, columns] = shape;
  const size = rows * columns;
  const eps = 1e-5;
  return {
    kernel: `${kind}NormBackward`,
    name: `${result} of ${rows}x${columns}, weight ${dtype}${mean ? `, mean ${mean}` : ''}${offset ? ` + ${offset}` : ''}${accumulate ? ', added' : ''}`,
    flops: 14 * size,
    bytes: 12 * size,
    bench: bench && result === 'input',
    // Subtracting the mean costs x - mean as many bits as the mean has above it.
    tolerance: 2e-6 * Math.max(1, mean),
    async setup(scope) {
      const x = await caseTensor(
        scope,
        normals(size, 1).map(value => value + mean),
        shape,
      );
      const weight = await caseTensor(scope, normals(columns, 2), [columns], dtype);
      const gradient = await caseTensor(scope, normals(size, 3), shape);
      const outputs = {
        input: begin(scope, shape, 1),
        weight: begin(scope, [columns], 1),
        bias: begin(scope, [columns], 1),
      };
      const options = { eps, accumulate, weightGradient: outputs.weight };
      return {
        run(rec) {
          const tensors = [x.tensor, weight.tensor, gradient.tensor, outputs.input] as const;
          if (kind === 'rms') rmsNormBackward(rec, ...tensors, { ...options, offset });
          else layerNormBackward(rec, ...tensors, { ...options, biasGradient: outputs.bias });
        },
        output: outputs[result],
        reference() {
          const slopes = normGradientsF64(item, [x.values, weight.values, gradient.values], eps)[result];
          const added = result !== 'input' || accumulate;
          return { expected: added ? slopes.map(value => value + 1) : slopes, scale: Math.sqrt(size) };
        },
      };
    },
  };
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const gauss = (x: number) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);

/** Normal distribution function by the continued fraction and the series of erf, 1e-15. */
function phi(x: number): number {
  const z = Math.abs(x) / Math.SQRT2;
  let tail: number;
  if (z < 2.5) {
    let [term, sum] = [z, z];
    for (let n = 1; n < 80; n++) {
      term *= (-z * z) / n;
      sum += term / (2 * n + 1);
    }
    tail = 0.5 - sum / Math.sqrt(Math.PI);
  } else {
    let fraction = z;
    for (let n = 60; n > 0; n--) fraction = z + n / 2 / fraction;
    tail = Math.exp(-z * z) / fraction / Math.sqrt(Math.PI) / 2;
  }
  return x > 0 ? 1 - tail : tail;
}

const tanhArgument = (x: number) => Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);

/** Value and slope of every activation in f64. */
export const activationsF64: Record<Activation, { value(x: number): number; slope(x: number): number }> = {
  silu: { value: x => x * sigmoid(x), slope: x => sigmoid(x) * (1 + x * (1 - sigmoid(x))) },
  quick_gelu: {
    value: x => x * sigmoid(1.702 * x),
    slope: x => sigmoid(1.702 * x) * (1 + 1.702 * x * (1 - sigmoid(1.702 * x))),
  },
  relu2: { value: x => Math.max(x, 0) ** 2, slope: x => 2 * Math.max(x, 0) },
  relu: { value: x => Math.max(x, 0), slope: x => (x > 0 ? 1 : 0) },
  gelu: { value: x => x * phi(x), slope: x => phi(x) + x * gauss(x) },
  gelu_tanh: {
    value: x => (x / 2) * (1 + Math.tanh(tanhArgument(x))),
    slope(x) {
      const t = Math.tanh(tanhArgument(x));
      return 0.5 * (1 + t) + (x / 2) * (1 - t * t) * Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x * x);
    },
  },
};

type ActivationResult = 'gate' | 'up' | 'features' | 'ungated' | 'ungated features';

function activationBackwardCase(
  activation: Activation,
  shape: Shape,
  result: ActivationResult,
  bench = false,
): KernelCase {
  const size = shape[0] * shape[1];
  const gated = !result.startsWith('ungated');
  return {
    kernel: gated ? 'gatedActivationBackward' : 'activationBackward',
    name: `${activation} ${result} ${shape[0]}x${shape[1]}`,
    flops: 12 * size,
    bytes: (gated ? 24 : 16) * size,
    bench,
    // Slopes are differences of larger terms where they change sign.
    tolerance: 1e-6,
    async setup(scope) {
      // Wide enough to reach the flat parts of every activation.
      const x = await caseTensor(
        scope,
        normals(size, 1).map(value => 4 * value),
        shape,
      );
      const u = await caseTensor(scope, normals(size, 2), shape);
      const gradient = await caseTensor(scope, normals(size, 3), shape);
      const [gate, up, features] = [scope.tensor(shape), scope.tensor(shape), scope.tensor(shape)];
      const host = activationsF64[activation];
      return {
        run(rec: Recorder) {
          rec.copy(x.tensor, gate);
          rec.copy(u.tensor, up);
          if (gated) gatedActivationBackward(rec, gate, up, gradient.tensor, { activation, features });
          else activationBackward(rec, gate, gradient.tensor, { activation, features });
        },
        output: { gate, up, features, ungated: gate, 'ungated features': features }[result],
        reference: () => ({
          expected: Float64Array.from(x.values, (value, i) => {
            const [g, factor] = [gradient.values[i]!, gated ? u.values[i]! : 1];
            if (result.endsWith('features')) return host.value(value) * factor;
            return result === 'up' ? g * host.value(value) : g * factor * host.slope(value);
          }),
        }),
      };
    },
  };
}

function embeddingBackwardCase(
  tokens: number,
  columns: number,
  vocabulary: number,
  bench = false,
): KernelCase {
  return {
    kernel: 'embeddingBackward',
    name: `${tokens} ids of ${vocabulary}x${columns}`,
    flops: tokens * columns,
    bytes: 12 * tokens * columns,
    bench,
    tolerance: 3e-7,
    async setup(scope) {
      // Many repeated ids, in no order.
      const ids = Uint32Array.from({ length: tokens }, (_, t) => ((t * t * 7 + 3 * t) % 31) % vocabulary);
      const gradient = await caseTensor(scope, normals(tokens * columns), [tokens, columns]);
      const idTensor = scope.own(tensorFrom(scope.device, ids));
      const output = begin(scope, [vocabulary, columns], 1);
      return {
        run: rec => embeddingBackward(rec, idTensor, gradient.tensor, output),
        output,
        reference() {
          const expected = new Float64Array(vocabulary * columns).fill(1);
          gradient.values.forEach((value, i) => {
            expected[ids[Math.floor(i / columns)]! * columns + (i % columns)]! += value;
          });
          return { expected };
        },
      };
    },
  };
}

function ropeBackwardCase(headDim: number, rotated: number): KernelCase {
  const [tokens, heads, scale] = [9, 3, 1.25];
  const columns = heads * headDim;
  return {
    kernel: 'rope',
    name: `gradient of ${tokens}x${heads}x${headDim}, ${rotated} rotated`,
    flops: 3 * tokens * heads * rotated,
    bytes: 8 * tokens * columns,
    bench: false,
    tolerance: 1e-6,
    async setup(scope) {
      const gradient = await caseTensor(scope, normals(tokens * columns), [tokens, columns]);
      const frequencies = Float64Array.from({ length: rotated / 2 }, (_, j) => 10000 ** ((-2 * j) / rotated));
      const table = scope.own(tensorFrom(scope.device, ropeTable(frequencies, 100, scale), [100, rotated]));
      const positions = Uint32Array.from({ length: tokens }, (_, t) => 99 - 7 * t);
      const positionTensor = scope.own(tensorFrom(scope.device, positions));
      const [q, k] = [scope.tensor([tokens, columns]), scope.tensor([tokens, columns])];
      return {
        run(rec) {
          rec.copy(gradient.tensor, q);
          rec.copy(gradient.tensor, k);
          rope(rec, q, k, positionTensor, table, { headDim, transpose: true });
        },
        output: k,
        reference() {
          const expected = Float64Array.from(gradient.values);
          for (let at = 0; at < expected.length; at += headDim) {
            for (let j = 0; j < rotated / 2; j++) {
              const angle = -positions[Math.floor(at / columns)]! * frequencies[j]!;
              const [a, b] = [gradient.values[at + j]!, gradient.values[at + j + rotated / 2]!];
              expected[at + j] = scale * (a * Math.cos(angle) - b * Math.sin(angle));
              expected[at + j + rotated / 2] = scale * (b * Math.cos(angle) + a * Math.sin(angle));
            }
          }
          return { expected };
        },
      };
    },
  };
}

function squaredNormCase(shape: Shape, bench = false): KernelCase {
  const size = shape[0] * shape[1];
  return {
    kernel: 'addSquaredNorm',
    name: `${shape[0]}x${shape[1]}`,
    flops: 2 * size,
    bytes: 4 * size,
    bench,
    tolerance: 3e-7,
    async setup(scope) {
      const x = await caseTensor(scope, normals(size), shape);
      const output = begin(scope, [1], 3);
      return {
        run: rec => addSquaredNorm(rec, x.tensor, output),
        output,
        reference: () => ({ expected: [x.values.reduce((sum, value) => sum + value * value, 3)] }),
      };
    },
  };
}

const normShapes: NormShape[] = [
  { kind: 'rms', shape: [1, 7], dtype: 'f32' },
  { kind: 'rms', shape: [129, 576], dtype: 'bf16', accumulate: true, bench: true },
  { kind: 'rms', shape: [7, 129], dtype: 'f16', offset: 1 },
  { kind: 'layer', shape: [7, 129], dtype: 'f16' },
  { kind: 'layer', shape: [129, 576], dtype: 'bf16', accumulate: true, bench: true },
  { kind: 'layer', shape: [70, 1000], dtype: 'f32', mean: 10 },
];

export const backwardCases: readonly KernelCase[] = [
  columnSumsCase([1, 1], false),
  columnSumsCase([7, 129], true),
  columnSumsCase([1000, 576], true, true),
  ...normShapes.flatMap(item =>
    (item.kind === 'rms' ? (['input', 'weight'] as const) : (['input', 'weight', 'bias'] as const)).map(
      result => normBackwardCase(item, result),
    ),
  ),
  ...(Object.keys(activationsF64) as Activation[]).flatMap(activation =>
    (['gate', 'up', 'features', 'ungated', 'ungated features'] as const).map(result =>
      activationBackwardCase(activation, [7, 129], result),
    ),
  ),
  activationBackwardCase('silu', [129, 576], 'gate', true),
  embeddingBackwardCase(1, 7, 3),
  embeddingBackwardCase(129, 576, 101, true),
  embeddingBackwardCase(70, 1, 5),
  ropeBackwardCase(16, 16),
  ropeBackwardCase(80, 32),
  squaredNormCase([1, 1]),
  squaredNormCase([7, 129]),
  squaredNormCase([1000, 1000], true),
];
