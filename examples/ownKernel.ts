/**
 * A kernel of your own: softmax of every row, in WGSL, compared with the host and timed.
 *
 *   node dist/examples/ownKernel.js
 */
import {
  Device,
  downloadF32,
  ensure,
  f32Bits,
  flatGrid,
  type ProgramSpec,
  type Recorder,
  Scope,
  type Tensor,
  tensorFrom,
} from 'rm-engine/engine';

const LANES = 64;

/**
 * One workgroup per row; lane l takes the columns l, l + 64, ... Binding 0 is always the parameter block; bindings
 * 1, 2, ... are the tensors in the order of `bindings`.
 */
const program: ProgramSpec = {
  key: 'example softmax',
  bindings: ['read', 'write'],
  wgsl: () => /* wgsl */ `
struct Params { rows: u32, columns: u32, temperature: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
var<workgroup> shared_: array<f32, ${LANES}>;

@compute @workgroup_size(${LANES})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = group.y * groups.x + group.x;
  if (row >= p.rows) { return; }
  let first = row * p.columns;

  var most = -3.0e38;
  for (var j = lane; j < p.columns; j += ${LANES}u) { most = max(most, x[first + j]); }
  shared_[lane] = most;
  workgroupBarrier();
  for (var i = 0u; i < ${LANES}u; i++) { most = max(most, shared_[i]); }
  workgroupBarrier();

  var sum = 0.0;
  for (var j = lane; j < p.columns; j += ${LANES}u) { sum += exp((x[first + j] - most) / p.temperature); }
  shared_[lane] = sum;
  workgroupBarrier();
  sum = 0.0;
  for (var i = 0u; i < ${LANES}u; i++) { sum += shared_[i]; }

  for (var j = lane; j < p.columns; j += ${LANES}u) {
    out[first + j] = exp((x[first + j] - most) / p.temperature) / sum;
  }
}`,
};

/** out[t] = softmax(x[t] / temperature); x, out [T,N] f32. */
function softmax(rec: Recorder, x: Tensor, out: Tensor, temperature = 1): void {
  ensure(
    x.dtype === 'f32' && out.dtype === 'f32' && x.shape.join() === out.shape.join(),
    `softmax of [${x.shape}] ${x.dtype} into [${out.shape}] ${out.dtype}`,
    'Both must be f32 of one shape.',
  );
  rec.dispatch({
    program,
    tensors: [x, out],
    // u32 values as they are, f32 values by their bits.
    params: [x.rowCount, x.columns, f32Bits(temperature)],
    // One workgroup per row, spread over as many grid dimensions as the device needs.
    grid: flatGrid(x.rowCount),
    // Work done: for the table below, and so that no submit takes too long.
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

// The first call compiled the program: forget its time.
await device.profiler?.table();
device.profiler?.reset();
const started = performance.now();
for (let i = 0; i < 10; i++) softmax(device.recorder, x, out);
await device.recorder.finish();
console.log(`wall clock  ${((performance.now() - started) / 10).toFixed(2)} ms a call`);
for (const { kernel, calls, milliseconds, bytes } of (await device.profiler?.table()) ?? [])
  console.log(
    `${kernel}: ${(milliseconds / calls).toFixed(2)} ms a call, ${(bytes / milliseconds / 1e6).toFixed(1)} GB/s`,
  );
