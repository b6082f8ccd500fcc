/**
 * Training without autograd: logistic regression, then a network with one hidden layer, on two rings that no line divides.
 * Each backward pass is written out, and Adam updates the weights.
 *
 *   node dist/examples/training.js
 */
import { Device, downloadF32, Scope, type Tensor, tensorFrom } from 'rm-engine/engine';
import { adam, fill, map, matmul, random, reduce } from 'rm-engine/kernels';

const [rows, hidden, steps] = [512, 16, 150];
await using device = await Device.open();
using scope = new Scope(device);
const { recorder: rec } = device;

// Points on two rings: y is 1 on the outer one.
const angle = (i: number) => (i * 2 * Math.PI * 7) / rows;
const ring = (i: number) => 1 + (i % 2) + 0.2 * Math.sin(i * 12.9898);
const points = Array.from({ length: rows }, (_, i) => [
  ring(i) * Math.cos(angle(i)),
  ring(i) * Math.sin(angle(i)),
  1,
]);
const x = scope.own(tensorFrom(device, points.flat(), [rows, 3]));
const y = scope.own(
  tensorFrom(
    device,
    points.map((_, i) => i % 2),
    [rows, 1],
  ),
);
const prediction = scope.tensor([rows, 1]);
const error = scope.tensor([rows, 1]);

/** Weights, with what Adam keeps of them. */
function weights(shape: readonly number[], seed: number) {
  const [parameters, gradient, firstMoment, secondMoment] = ['w', 'dw', 'm', 'v'].map(name =>
    scope.tensor(shape, 'f32', name),
  ) as [Tensor, Tensor, Tensor, Tensor];
  random(rec, parameters, { seed, distribution: 'normal' });
  for (const moment of [firstMoment, secondMoment]) fill(rec, moment, 0);
  return { parameters, gradient, firstMoment, secondMoment };
}

/** Cross entropy of the predictions, and the share of right ones. */
async function judge(name: string): Promise<void> {
  const [loss, right] = [scope.tensor([1]), scope.tensor([1])];
  const inputs = { p: prediction, y };
  reduce(rec, 'mean', { map: '-log(y > 0.5 ? p : 1 - p)', inputs }, loss, { axis: 'first' });
  reduce(rec, 'mean', { map: '(p - 0.5) * (y - 0.5) > 0 ? 1 : 0', inputs }, right, { axis: 'first' });
  const [nats, share] = [await downloadF32(loss), await downloadF32(right)];
  console.log(`${name.padEnd(20)} loss ${nats[0]!.toFixed(4)}  right ${(100 * share[0]!).toFixed(1)} %`);
}

// p = sigmoid(x w); the gradient of the mean cross entropy is x^T (p - y) / rows.
const line = weights([3, 1], 1);
for (let step = 1; step <= steps; step++) {
  matmul(rec, x, line.parameters, prediction);
  map(rec, 'sigmoid(z)', { z: prediction }, prediction);
  map(rec, '(p - y) / rows', { p: prediction, y, rows }, error);
  matmul(rec, x, error, line.gradient, { transposeA: true });
  adam(rec, line, { learningRate: 0.05, step });
}
await judge('logistic regression');

// h = tanh(x w1), p = sigmoid(h w2).
const [first, second] = [weights([3, hidden], 2), weights([hidden, 1], 3)];
const [h, dh] = [scope.tensor([rows, hidden]), scope.tensor([rows, hidden])];
for (let step = 1; step <= steps; step++) {
  matmul(rec, x, first.parameters, h);
  map(rec, 'tanh(h)', { h }, h);
  matmul(rec, h, second.parameters, prediction);
  map(rec, 'sigmoid(z)', { z: prediction }, prediction);

  map(rec, '(p - y) / rows', { p: prediction, y, rows }, error);
  matmul(rec, h, error, second.gradient, { transposeA: true });
  matmul(rec, error, second.parameters, dh, { transposeB: true });
  map(rec, 'dh * (1 - h * h)', { dh, h }, dh);
  matmul(rec, x, dh, first.gradient, { transposeA: true });
  for (const layer of [first, second]) adam(rec, layer, { learningRate: 0.05, step });
}
await judge('one hidden layer');
