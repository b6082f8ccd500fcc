/**
 * The tensor engine alone: the largest eigenvalue of a matrix by power iteration, checked against its closed form.
 *
 *   node dist/examples/powerIteration.js
 */
import { Device, downloadF32, Scope, tensorFrom } from 'rm-engine/engine';
import { matmul, rowNorms, scale } from 'rm-engine/kernels';

const n = 512;
const iterations = 12;

await using device = await Device.open();
const rec = device.recorder;
// Frees its tensors when the program ends.
using scope = new Scope(device);

// A[i][j] = min(i, j) + 1 is the inverse of a second-difference matrix, whose eigenvalues are known.
const values = Float32Array.from({ length: n * n }, (_, k) => Math.min(Math.floor(k / n), k % n) + 1);
const a = scope.own(tensorFrom(device, values, [n, n], 'A'));
let x = scope.own(tensorFrom(device, new Float32Array(n).fill(1 / Math.sqrt(n)), [1, n], 'x'));
let y = scope.tensor([1, n]);
const norm = scope.tensor([1]);

let eigenvalue = 0;
for (let i = 0; i < iterations; i++) {
  // These calls only record kernels; the download submits them and waits.
  matmul(rec, x, a, y);
  rowNorms(rec, y, norm);
  [eigenvalue = 0] = await downloadF32(norm);
  scale(rec, y, 1 / eigenvalue);
  [x, y] = [y, x];
}

const exact = 1 / (4 * Math.sin(Math.PI / (4 * n + 2)) ** 2);
console.log(`adapter        ${device.info.description}`);
console.log(`eigenvalue     ${eigenvalue} after ${iterations} iterations`);
console.log(`closed form    ${exact}`);
console.log(`relative error ${Math.abs(eigenvalue / exact - 1).toExponential(1)}`);
