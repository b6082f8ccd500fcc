// A GPUDevice that another program has opened: ours works beside it, on its buffers. Costs 1 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { create, globals } from 'webgpu';
import {
  Device,
  download,
  downloadF32,
  downloadInto,
  Tensor,
  tensorFrom,
  upload,
} from '../../engine/index.js';
import { enableBundledDriver, hasVulkan } from '../../engine/softwareDriver.js';
import { fill, map } from '../../kernels/index.js';
import { rejectsWith } from '../gpu.js';

Object.assign(globalThis, globals);
if (!hasVulkan()) enableBundledDriver();
// Must stay referenced while its devices are in use.
const gpu = create(process.platform === 'linux' ? ['backend=vulkan'] : []);
let adapter: GPUAdapter;
let foreign: GPUDevice;
let device: Device;
test.before(async () => {
  adapter = (await gpu.requestAdapter())!;
  foreign = await adapter.requestDevice();
  device = await Device.from(foreign);
});
test.after(async () => {
  await device.close();
  foreign.destroy();
});

const all = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
function bufferOf(values: readonly number[], owner = foreign, usage: number = all): GPUBuffer {
  const buffer = owner.createBuffer({ size: 16 * Math.ceil(values.length / 4), usage });
  if (usage & GPUBufferUsage.COPY_DST) owner.queue.writeBuffer(buffer, 0, Float32Array.from(values));
  return buffer;
}

test('a GPUDevice made elsewhere computes, with our tensors and with its buffers, and stays open', async () => {
  const buffer = bufferOf([1, 2, 3, 4, 5]);
  const before = device.memory.liveBytes;
  using x = Tensor.fromBuffer(device, buffer, [5], 'f32', { label: 'theirs' });
  assert.is(device.memory.liveBytes, before);
  using y = tensorFrom(device, [10, 20, 30, 40, 50]);
  map(device.recorder, 'x + y', { x, y }, x);
  // What is recorded here runs before what the other program submits after `flush`.
  device.recorder.flush();
  const read = foreign.createBuffer({ size: 20, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = foreign.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, read, 0, 20);
  foreign.queue.submit([encoder.finish()]);
  await read.mapAsync(GPUMapMode.READ);
  assert.equal([...new Float32Array(read.getMappedRange())], [11, 22, 33, 44, 55]);
  // The other way: what it writes is read here.
  foreign.queue.writeBuffer(buffer, 0, Float32Array.of(7));
  assert.equal([...(await downloadF32(x))], [7, 22, 33, 44, 55]);
  await upload(x, new Uint8Array(20));
  assert.equal([...(await download(x))], Array(20).fill(0));
  x.dispose();
  assert.is(buffer.mapState, 'unmapped');

  const second = await (await gpu.requestAdapter())!.requestDevice();
  const first = await Device.from(second);
  await first.close();
  // Not destroyed with it: it still takes work, and another Device.
  await using again = await Device.from(second);
  using z = Tensor.create(again, [4]);
  fill(again.recorder, z, 2.5);
  assert.equal([...(await downloadF32(z))], [2.5, 2.5, 2.5, 2.5]);
});

test('two tensors of one buffer are seen to be one', async () => {
  const buffer = bufferOf(Array(128).fill(1));
  const x = Tensor.fromBuffer(device, buffer, [64]);
  const y = Tensor.fromBuffer(device, buffer, [64], 'f32', { byteOffset: 256 });
  assert.is(x.buffer.id, y.buffer.id);
  await rejectsWith(() => device.recorder.copy(x, y), 'INVALID_ARGUMENT');
});

test('what cannot be taken is refused, and the device stays usable', async () => {
  await using ours = await Device.open();
  const buffer = bufferOf([1, 2, 3, 4]);
  const refused: [work: () => unknown, message: RegExp][] = [
    [() => Device.from(foreign), /has a Device already/],
    [() => Device.from({} as GPUDevice), /not a GPUDevice/],
    [() => Device.from(foreign, { adapter: 'x' } as never), /'adapter'/],
    [() => Tensor.fromBuffer(device, buffer, [5]), /needs 32 bytes .* has 16/],
    [() => Tensor.fromBuffer(device, buffer, [3], 'f16'), /32-bit word/],
    [
      () => Tensor.fromBuffer(device, bufferOf([1], foreign, GPUBufferUsage.STORAGE), [1]),
      /bound and copied/,
    ],
    [() => Tensor.fromBuffer(device, bufferOf([1], ours.gpu), [1]), /not one of this device/],
    [() => Tensor.fromBuffer(device, {} as GPUBuffer, [1]), /not a GPUBuffer/],
  ];
  for (const [work, message] of refused) assert.match(await rejectsWith(work, 'INVALID_ARGUMENT'), message);
  const target = new Float32Array(4);
  await downloadInto(Tensor.fromBuffer(device, buffer, [4]), target);
  assert.equal([...target], [1, 2, 3, 4]);
});

test('limits and features that programs need are asked for, or refused by name', async () => {
  const limits = { maxComputeWorkgroupStorageSize: 20480 };
  const open = (options: object) => async () => (await Device.open(options)).close();
  if (adapter.limits.maxComputeWorkgroupStorageSize >= 20480) {
    await using device = await Device.open({ limits, features: ['bgra8unorm-storage'] });
    assert.is(device.limits.maxComputeWorkgroupStorageSize, 20480);
    assert.ok(device.gpu.features.has('bgra8unorm-storage'));
  }
  const unknown = await rejectsWith(open({ limits: { maxComputeStorage: 1 } }), 'INVALID_ARGUMENT');
  assert.match(unknown, /no limit 'maxComputeStorage'/);
  await rejectsWith(open({ limits: { maxComputeWorkgroupStorageSize: 2 ** 40 } }), 'ADAPTER_UNSUITABLE');
  assert.match(await rejectsWith(open({ features: ['shader-f61'] }), 'ADAPTER_UNSUITABLE'), /'shader-f61'/);
});

test.run();
