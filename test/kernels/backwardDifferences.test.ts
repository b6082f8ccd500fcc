import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { attention } from '../../kernels/attention/attention.js';
import { attentionBackward } from '../../kernels/attentionBackward/attentionBackward.js';
import { attentionF64, causalRanges } from '../../kernels/cases/attention.js';
import { activationsF64 } from '../../kernels/cases/backward.js';
import {
  crossEntropyF64,
  klF64,
  type LossF64,
  topKlF64,
  topTensors,
  vocabularyLossF64,
} from '../../kernels/cases/vocabularyLoss.js';
import { activationBackward, gatedActivationBackward } from '../../kernels/elementwise/activationBackward.js';
import { matmul } from '../../kernels/matmul/matmul.js';
import { layerNormBackward, rmsNormBackward } from '../../kernels/norms/normBackward.js';
import { crossEntropyLoss } from '../../kernels/vocabulary/crossEntropyLoss.js';
import { klLoss } from '../../kernels/vocabulary/klLoss.js';
import { topKlLoss } from '../../kernels/vocabulary/topKlLoss.js';
import { topLogProbabilities } from '../../kernels/vocabulary/topLogProbabilities.js';
import { normals, rejectsWith, relativeError } from '../gpu.js';

// Compares each kernel's gradients with central differences of a host forward pass in f64, which use no derivatives.

let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(async () => {
  await device.close();
});

type Values = ArrayLike<number>;
type Inputs = Record<string, Float32Array>;

/** Central differences of `objective` by every element of input `name`. */
function differences(
  objective: (inputs: Record<string, Values>) => number,
  inputs: Inputs,
  name: string,
): Float64Array {
  const h = 1e-5;
  const values = Float64Array.from(inputs[name]!);
  return Float64Array.from(values, (value, at) => {
    const moved = (change: number) => {
      const copy = values.slice();
      copy[at] = value + change;
      return objective({ ...inputs, [name]: copy });
    };
    return (moved(h) - moved(-h)) / (2 * h);
  });
}

const dot = (a: Values, b: Values): number => Array.from(a).reduce((sum, value, i) => sum + value * b[i]!, 0);

const upload = (scope: Scope, values: Float32Array, shape: readonly number[]): Tensor =>
  scope.own(tensorFrom(scope.device, values, shape));

async function compare(
  gradients: Record<string, Tensor>,
  objective: (inputs: Record<string, Values>) => number,
  inputs: Inputs,
): Promise<void> {
  for (const [name, tensor] of Object.entries(gradients)) {
    const error = relativeError(await downloadF32(tensor), differences(objective, inputs, name));
    assert.ok(error < 1e-5, `${name}: relative error ${error}`);
  }
}

test('matmul gives its own gradients: dx = g W, dW += g^T x', async () => {
  using scope = new Scope(device);
  const [rows, depth, columns] = [5, 6, 7];
  const inputs = { x: normals(rows * depth, 1), w: normals(columns * depth, 2) };
  const g = normals(rows * columns, 3);
  const objective = ({ x, w }: Record<string, Values>) => {
    let sum = 0;
    for (let t = 0; t < rows; t++)
      for (let j = 0; j < columns; j++)
        for (let d = 0; d < depth; d++) sum += g[t * columns + j]! * x![t * depth + d]! * w![j * depth + d]!;
    return sum;
  };
  const [x, w] = [upload(scope, inputs.x, [rows, depth]), upload(scope, inputs.w, [columns, depth])];
  const gradient = upload(scope, g, [rows, columns]);
  const gradients = { x: scope.tensor([rows, depth]), w: scope.tensor([columns, depth]) };
  device.recorder.clear(gradients.w);
  matmul(device.recorder, gradient, w, gradients.x);
  matmul(device.recorder, gradient, x, gradients.w, { transposeA: true, accumulate: true });
  await compare(gradients, objective, inputs);
});

for (const kind of ['rms', 'layer'] as const) {
  test(`${kind}NormBackward`, async () => {
    using scope = new Scope(device);
    const [rows, columns, eps] = [3, 10, 1e-2];
    const inputs: Inputs = { x: normals(rows * columns, 1), weight: normals(columns, 2) };
    if (kind === 'layer') inputs.bias = normals(columns, 4);
    const g = normals(rows * columns, 3);
    const objective = ({ x, weight, bias }: Record<string, Values>) => {
      let sum = 0;
      for (let first = 0; first < rows * columns; first += columns) {
        const row = Array.from({ length: columns }, (_, j) => x![first + j]!);
        const mean = kind === 'layer' ? row.reduce((a, b) => a + b, 0) / columns : 0;
        const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / columns;
        row.forEach((value, j) => {
          const normed = ((value - mean) / Math.sqrt(variance + eps)) * weight![j]! + (bias?.[j] ?? 0);
          sum += g[first + j]! * normed;
        });
      }
      return sum;
    };
    const [x, weight] = [upload(scope, inputs.x!, [rows, columns]), upload(scope, inputs.weight!, [columns])];
    const gradient = upload(scope, g, [rows, columns]);
    const zero = () => upload(scope, new Float32Array(columns), [columns]);
    const found: Record<string, Tensor> = { x: scope.tensor([rows, columns]), weight: zero() };
    const options = { eps, weightGradient: found.weight };
    if (kind === 'rms') rmsNormBackward(device.recorder, x, weight, gradient, found.x!, options);
    else {
      found.bias = zero();
      layerNormBackward(device.recorder, x, weight, gradient, found.x!, {
        ...options,
        biasGradient: found.bias,
      });
    }
    await compare(found, objective, inputs);
  });
}

test('activations, gated and not', async () => {
  for (const [name, { value }] of Object.entries(activationsF64)) {
    using scope = new Scope(device);
    const activation = name as keyof typeof activationsF64;
    const shape = [4, 9];
    const inputs = { gate: normals(36, 1), up: normals(36, 2) };
    const g = normals(36, 3);
    const gradient = upload(scope, g, shape);
    const [gate, up] = [upload(scope, inputs.gate, shape), upload(scope, inputs.up, shape)];
    gatedActivationBackward(device.recorder, gate, up, gradient, { activation });
    await compare(
      { gate, up },
      at =>
        dot(
          g,
          Array.from(at.gate!, (x, i) => value(x) * at.up![i]!),
        ),
      inputs,
    );
    const x = upload(scope, inputs.gate, shape);
    activationBackward(device.recorder, x, gradient, { activation });
    await compare({ gate: x }, at => dot(g, Array.from(at.gate!, value)), inputs);
  }
});

test('attentionBackward: grouped queries, two sequences, a sliding window', async () => {
  using scope = new Scope(device);
  const options = { heads: 4, kvHeads: 2, headDim: 8, scale: 0.6 };
  const ranges = causalRanges([7, 4], 3);
  const shapes = { q: [11, 32], k: [11, 16], v: [11, 16] };
  const inputs = { q: normals(352, 1), k: normals(176, 2), v: normals(176, 3) };
  const g = normals(352, 4);
  const [q, k, v] = (['q', 'k', 'v'] as const).map(name => upload(scope, inputs[name], shapes[name])) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const bounds = scope.own(tensorFrom(device, ranges, [11, 2]));
  const out = scope.tensor([11, 32]);
  attention(device.recorder, q, k, v, bounds, out, options);
  const found = { q: scope.tensor([11, 32]), k: scope.tensor([11, 16]), v: scope.tensor([11, 16]) };
  attentionBackward(
    device.recorder,
    { q, k, v, ranges: bounds, out },
    upload(scope, g, [11, 32]),
    found,
    options,
  );
  await compare(found, at => dot(g, attentionF64(at.q!, at.k!, at.v!, ranges, options)), inputs);
});

test('losses over the vocabulary: next token, teacher, teacher by its likeliest tokens', async () => {
  using scope = new Scope(device);
  const [tokens, vocabulary, depth, k] = [4, 23, 6, 5];
  const shapes = { hidden: [tokens, depth], head: [vocabulary, depth] };
  const inputs = { hidden: normals(tokens * depth, 1), head: normals(vocabulary * depth, 2) };
  const teacherValues = { hidden: normals(tokens * depth, 4), head: normals(vocabulary * depth, 5) };
  const weightValues = Float32Array.of(0.5, 0, 1, 0.25);
  const targets = Uint32Array.of(3, 22, 0, 3);
  const model = (values: typeof inputs) => ({
    hidden: upload(scope, values.hidden, shapes.hidden),
    head: upload(scope, values.head, shapes.head),
  });
  const [student, teacher] = [model(inputs), model(teacherValues)];
  const weights = upload(scope, weightValues, [tokens]);
  const targetTensor = scope.own(tensorFrom(device, targets));
  const top = topTensors(scope, tokens, k);
  topLogProbabilities(device.recorder, teacher, top);
  const loss = scope.tensor([tokens]);
  const { recorder } = device;
  const kinds: [name: string, host: LossF64, run: (g: { hidden: Tensor; head: Tensor }) => void][] = [
    [
      'lm',
      crossEntropyF64(targets),
      g => crossEntropyLoss(recorder, student, targetTensor, weights, loss, g),
    ],
    ['kl', klF64, g => klLoss(recorder, student, teacher, weights, loss, g)],
    ['top kl', topKlF64(k), g => topKlLoss(recorder, student, top, weights, loss, g)],
  ];
  for (const [, host, run] of kinds) {
    const gradients = { hidden: scope.tensor(shapes.hidden), head: scope.tensor(shapes.head) };
    recorder.clear(gradients.head);
    run(gradients);
    const objective = (at: Record<string, Values>) =>
      dot(
        weightValues,
        vocabularyLossF64(host, at as typeof inputs, teacherValues, weightValues, depth).loss,
      );
    await compare(gradients, objective, inputs);
  }
});

test('a student equal to its teacher has no loss and no gradient', async () => {
  using scope = new Scope(device);
  const hidden = upload(scope, normals(3 * 16, 1), [3, 16]);
  const head = upload(scope, normals(50 * 16, 2), [50, 16]);
  const weights = upload(scope, new Float32Array(3).fill(1), [3]);
  const loss = scope.tensor([3]);
  const gradient = scope.tensor([3, 16]);
  klLoss(device.recorder, { hidden, head }, { hidden, head }, weights, loss, { hidden: gradient });
  assert.ok((await downloadF32(loss)).every(value => Math.abs(value) < 1e-6));
  assert.ok((await downloadF32(gradient)).every(value => value === 0));
  const top = topTensors(scope, 3, 9);
  topLogProbabilities(device.recorder, { hidden, head }, top);
  topKlLoss(device.recorder, { hidden, head }, top, weights, loss, { hidden: gradient });
  assert.ok((await downloadF32(loss)).every(value => Math.abs(value) < 1e-6));
  assert.ok((await downloadF32(gradient)).every(value => Math.abs(value) < 1e-5));
});

test('undefined results are NaN, invalid calls are refused', async () => {
  using scope = new Scope(device);
  const hidden = upload(scope, normals(2 * 16, 1), [2, 16]);
  const head = upload(scope, normals(40 * 16, 2), [40, 16]);
  const weights = upload(scope, new Float32Array(2).fill(1), [2]);
  const loss = scope.tensor([2]);
  const targets = scope.own(tensorFrom(device, Uint32Array.of(39, 40)));
  crossEntropyLoss(device.recorder, { hidden, head }, targets, weights, loss);
  const [inside, outside] = await downloadF32(loss);
  assert.ok(inside! > 0);
  assert.ok(Number.isNaN(outside));
  const top = topTensors(scope, 2, 41);
  await rejectsWith(() => topLogProbabilities(device.recorder, { hidden, head }, top), 'INVALID_ARGUMENT');
  const teacher = { hidden, head: scope.tensor([39, 16]) };
  await rejectsWith(
    () => klLoss(device.recorder, { hidden, head }, teacher, weights, loss),
    'INVALID_ARGUMENT',
  );
  await rejectsWith(
    () => crossEntropyLoss(device.recorder, { hidden, head }, targets, weights, loss, { hidden: head }),
    'INVALID_ARGUMENT',
  );
});

test.run();
