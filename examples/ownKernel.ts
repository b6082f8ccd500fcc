/**
 * A kernel of your own: softmax of every row, in WGSL, compared with the host and timed beside the package's own.
 *
 *   node dist/examples/ownKernel.js
 */
import { measure } from 'rm-engine/bench';
import {
  Device,
  downloadF32,
  type ProgramSpec,
  type Recorder,
  Scope,
  type Tensor,
  tensorFrom,
} from 'rm-engine/engine';
import { softmax as packaged } from 'rm-engine/kernels';

/** One workgroup of 64 per row. The engine declares `p`, `x` and `out`, and checks what a dispatch gives for them. */
const program: ProgramSpec = {
  key: 'example softmax',
  params: { columns: 'u32', temperature: 'f32' },
  bindings: { x: 'read f32', out: 'write f32' },
  wgsl: /* wgsl */ `
var<workgroup> parts: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = group.x * p.columns;
  var most = -3.0e38;
  for (var j = lane; j < p.columns; j += 64u) { most = max(most, x[first + j]); }
  parts[lane] = most;
  workgroupBarrier();
  for (var i = 0u; i < 64u; i++) { most = max(most, parts[i]); }
  workgroupBarrier();

  var sum = 0.0;
  for (var j = lane; j < p.columns; j += 64u) { sum += exp((x[first + j] - most) / p.temperature); }
  parts[lane] = sum;
  workgroupBarrier();
  sum = 0.0;
  for (var i = 0u; i < 64u; i++) { sum += parts[i]; }

  for (var j = lane; j < p.columns; j += 64u) {
    out[first + j] = exp((x[first + j] - most) / p.temperature) / sum;
  }
}`,
};

/** out[t] = softmax(x[t] / temperature); x, out [T,N] f32. */
function softmax(rec: Recorder, x: Tensor, out: Tensor, temperature = 1): void {
  const params = { columns: x.columns, temperature };
  rec.dispatch({
    program,
    tensors: { x, out },
    params,
    grid: [x.rowCount],
    flops: 8 * x.size,
    bytes: 12 * x.size,
  });
}

const [rows, columns] = [512, 1024];
// Times every dispatch if the adapter can.
await using device = await Device.open({ profile: true });
using scope = new Scope(device);
const values = Float32Array.from({ length: rows * columns }, (_, i) => 8 * Math.sin(i * 0.37));
const x = scope.own(tensorFrom(device, values, [rows, columns], 'x'));
const out = scope.tensor([rows, columns]);

softmax(device.recorder, x, out);
const result = await downloadF32(out);
let worst = 0;
for (let row = 0; row < rows; row += 37) {
  const exps = [...values.subarray(row * columns, (row + 1) * columns)].map(Math.exp);
  const sum = exps.reduce((a, b) => a + b, 0);
  exps.forEach((e, j) => {
    worst = Math.max(worst, Math.abs(result[row * columns + j]! - e / sum) / (e / sum));
  });
}
console.log(`largest relative error ${worst.toExponential(1)}`);

const cost = { flops: 8 * x.size, bytes: 12 * x.size };
const { timings } = await measure(device, [
  { kernel: 'own', name: 'softmax', ...cost, setup: () => ({ run: rec => softmax(rec, x, out) }) },
  { kernel: 'packaged', name: 'softmax', ...cost, setup: () => ({ run: rec => packaged(rec, x, out) }) },
]);
for (const { kernel, milliseconds, gigabytes } of timings)
  console.log(`${kernel.padEnd(9)} ${milliseconds.toFixed(3)} ms  ${gigabytes.toFixed(1)} GB/s`);
