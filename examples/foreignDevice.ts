/**
 * Beside another WebGPU program: it opens the GPUDevice, keeps the data and runs a shader of its own; the engine computes on
 * its buffer in place. TypeGPU, say, is used the same way (docs/engine.md).
 *
 *   node dist/examples/foreignDevice.js
 */
import { Device, Tensor } from 'rm-engine/engine';
import { softmax } from 'rm-engine/kernels';
import { create, globals } from 'webgpu';

// The other program. Dawn's objects must be referenced as long as they are used.
Object.assign(globalThis, globals);
const gpu = create([]);
const adapter = await gpu.requestAdapter();
const foreign = await adapter!.requestDevice();
const [rows, columns] = [64, 256];
const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
const buffer = foreign.createBuffer({ size: 4 * rows * columns, usage });
const wgsl = /* wgsl */ `
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < arrayLength(&x)) { x[id.x] = STATEMENT; }
}`;
function runTheirs(statement: string): void {
  const module = foreign.createShaderModule({ code: wgsl.replace('STATEMENT', statement) });
  const pipeline = foreign.createComputePipeline({ layout: 'auto', compute: { module } });
  const encoder = foreign.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  const entries = [{ binding: 0, resource: { buffer } }];
  pass.setBindGroup(0, foreign.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups((rows * columns) / 64);
  pass.end();
  foreign.queue.submit([encoder.finish()]);
}

const device = await Device.from(foreign);
const x = Tensor.fromBuffer(device, buffer, [rows, columns]);
runTheirs('sin(f32(id.x))');
// Reads what the other program has submitted.
softmax(device.recorder, x, x);
// Submits what was recorded, so that the other program's next work finds it done.
device.recorder.flush();
runTheirs(`x[id.x] * ${columns}.0`);

const read = foreign.createBuffer({
  size: buffer.size,
  usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
});
const encoder = foreign.createCommandEncoder();
encoder.copyBufferToBuffer(buffer, 0, read, 0, buffer.size);
foreign.queue.submit([encoder.finish()]);
await read.mapAsync(GPUMapMode.READ);
const values = new Float32Array(read.getMappedRange());
const sum = values.subarray(0, columns).reduce((a, b) => a + b, 0);
console.log(`the first row adds up to ${sum.toFixed(3)} of ${columns}`);
await device.close();
foreign.destroy();
