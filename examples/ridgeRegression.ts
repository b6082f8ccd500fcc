/**
 * Ridge regression: W = (X^T X + ridge I)^-1 X^T Y, with sums and a solve that keep what f32 alone would lose. The error is
 * that of an f64 solve on the host.
 *
 *   node dist/examples/ridgeRegression.js
 */
import { Device, downloadF32, Scope, type Tensor } from 'rm-engine/engine';
import {
  clearDoubleSingle,
  createDoubleSingle,
  crossGram,
  disposeDoubleSingle,
  downloadF64,
  gram,
  map,
  matmul,
  random,
  solveSpd,
  symmetrize,
} from 'rm-engine/kernels';

const [rows, features, outputs, ridge] = [4096, 64, 3, 0.5];

await using device = await Device.open();
using scope = new Scope(device);
const rec = device.recorder;
const drawn = (shape: readonly number[], seed: number): Tensor => {
  const tensor = scope.tensor(shape);
  random(rec, tensor, { seed, distribution: 'normal' });
  return tensor;
};

// Targets are those of known weights, with some noise.
const x = drawn([rows, features], 1);
const truth = drawn([features, outputs], 2);
const y = drawn([rows, outputs], 3);
const exact = scope.tensor([rows, outputs]);
matmul(rec, x, truth, exact);
map(rec, 'exact + 0.01 * noise', { exact, noise: y }, y);

const [xx, xy] = [
  createDoubleSingle(scope, [features, features]),
  createDoubleSingle(scope, [features, outputs]),
];
for (const sums of [xx, xy]) clearDoubleSingle(rec, sums);
// Rows may come in as many parts as you like.
for (let start = 0; start < rows; start += 1024) {
  gram(rec, x.rows(start, 1024), undefined, xx);
  crossGram(rec, x.rows(start, 1024), y.rows(start, 1024), undefined, xy);
}
symmetrize(rec, xx);
const { x: weights, report } = await solveSpd(device, xx, xy, { shift: ridge });
const solved = await downloadF64(weights);
disposeDoubleSingle(weights);

// The same on the host in f64, by elimination.
const [hostX, hostY] = [await downloadF32(x), await downloadF32(y)];
const system = Array.from({ length: features }, (_, i) =>
  Float64Array.from({ length: features + outputs }, (_, j) => {
    let sum = i === j ? ridge : 0;
    for (let t = 0; t < rows; t++)
      sum +=
        hostX[t * features + i]! *
        (j < features ? hostX[t * features + j]! : hostY[t * outputs + j - features]!);
    return sum;
  }),
);
for (let i = 0; i < features; i++) {
  const pivot = system[i]!.map(value => value / system[i]![i]!);
  system.forEach((row, k) => {
    const factor = row[i]!;
    system[k] = k === i ? pivot : row.map((value, j) => value - factor * pivot[j]!);
  });
}
const host = system.flatMap(row => [...row.subarray(features)]);
const norm = (values: readonly number[]) => Math.hypot(...values);
console.log(
  `weights ${features} x ${outputs}, first ${[...solved.subarray(0, 3)].map(w => w.toFixed(6)).join(' ')}`,
);
console.log(`relative residual  ${report.relativeResidual.toExponential(1)}`);
console.log(`condition          ${report.conditionEstimate.toFixed(1)}`);
console.log(`error beside f64   ${(norm(host.map((w, i) => w - solved[i]!)) / norm(host)).toExponential(1)}`);
