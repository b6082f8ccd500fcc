import { existsSync, readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ProgramSpec } from '../../engine/index.js';
import { Device, downloadF32, f32Bits, flatGrid, Tensor, tensorFrom } from '../../engine/index.js';
import { rejectsWith } from '../gpu.js';
import { saySkipped } from '../support.js';

/** y[i] = factor * x[i] */
const scale: ProgramSpec = {
  key: 'test scale',
  bindings: ['read', 'write'],
  wgsl: () => /* wgsl */ `
    struct Params { count: u32, factor: f32 }
    @group(0) @binding(0) var<uniform> p: Params;
    @group(0) @binding(1) var<storage, read> x: array<f32>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(64) fn main(
      @builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32,
    ) {
      let i = (wid.y * groups.x + wid.x) * 64u + lane;
      if (i < p.count) { y[i] = p.factor * x[i]; }
    }`,
};

function recordScale(device: Device, x: Tensor, y: Tensor, factor: number): void {
  device.recorder.dispatch({
    program: scale,
    tensors: [x, y],
    params: [x.size, f32Bits(factor)],
    grid: flatGrid(Math.ceil(x.size / 64)),
    flops: x.size,
    bytes: 8 * x.size,
  });
}

test('50 devices open and close, 10,000 dispatches, live bytes back at zero', async () => {
  for (let round = 0; round < 50; round++) {
    const device = await Device.open();
    const x = tensorFrom(
      device,
      Float32Array.from({ length: 1000 }, (_, i) => i),
    );
    const y = Tensor.create(device, [1000]);
    for (let i = 0; i < 100; i++) {
      recordScale(device, x, y, 2);
      recordScale(device, y, x, 0.5);
    }
    const values = await downloadF32(x);
    assert.is(values[999], 999);
    assert.is(device.recorder.dispatches, 200);
    x.dispose();
    y.dispose();
    assert.is(device.memory.liveBytes, 0);
    await device.close();
  }
});

test('100,000 pairs of bound ranges: evicted bind groups are freed', async () => {
  await using device = await Device.open();
  const [sources, targets, columns] = [500, 200, 64];
  using x = tensorFrom(
    device,
    Float32Array.from({ length: sources * columns }, (_, i) => i % 1000),
    [sources, columns],
  );
  using y = Tensor.create(device, [targets, columns]);
  for (let source = 0; source < sources; source++) {
    for (let target = 0; target < targets; target++) {
      recordScale(device, x.rows(source, 1), y.rows(target, 1), 2);
    }
    await device.recorder.finish();
  }
  const last = Float32Array.from(
    { length: targets * columns },
    (_, i) => 2 * (((sources - 1) * columns + (i % columns)) % 1000),
  );
  assert.equal(await downloadF32(y), last);
  // lavapipe maps a page for each bind group, and Linux lets a process map 65,530.
  if (existsSync('/proc/self/maps')) {
    const maps = readFileSync('/proc/self/maps', 'utf8').split('\n').length;
    console.log(`${maps} memory maps`);
    assert.ok(maps < 30_000, `${maps} memory maps`);
  }
});

test("a binding limit below the adapter's is kept to", async () => {
  await using device = await Device.open({ bindingLimit: 1024 });
  assert.is(device.limits.maxStorageBufferBindingSize, 1024);
  using x = Tensor.create(device, [257]);
  using y = Tensor.create(device, [257]);
  const bind = () =>
    device.recorder.dispatch({ program: scale, tensors: [x, y], params: [257, f32Bits(2)], grid: [5] });
  const message = await rejectsWith(bind, 'INVALID_ARGUMENT');
  assert.match(message, 'can bind 1024');
});

test('a lost device is DEVICE_LOST', async () => {
  await using device = await Device.open();
  using x = Tensor.create(device, [4]);
  device.gpu.destroy();
  await device.gpu.lost;
  await rejectsWith(() => downloadF32(x), 'DEVICE_LOST');
});

test('a closed device refuses work, and closing waits for pending work', async () => {
  const device = await Device.open({ profile: true });
  const [x, y] = [tensorFrom(device, new Float32Array(64)), Tensor.create(device, [64])];
  recordScale(device, x, y, 2);
  device.recorder.flush();
  await Promise.all([device.close(), device.close()]);
  await rejectsWith(() => recordScale(device, x, y, 2), 'DEVICE_LOST');
  await rejectsWith(() => downloadF32(y), 'DEVICE_LOST');
});

test('an uncaptured error is GPU_ERROR', async () => {
  await using device = await Device.open();
  device.gpu.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
  await rejectsWith(() => device.recorder.finish(), 'GPU_ERROR');
});

test('the memory limit is OUT_OF_MEMORY before the driver is asked', async () => {
  await using device = await Device.open({ memoryLimit: 1 << 20 });
  using _ = Tensor.create(device, [200_000]);
  await rejectsWith(() => Tensor.create(device, [100_000], 'f32', 'big'), 'OUT_OF_MEMORY');
});

test('a buffer bound twice for writing is refused', async () => {
  await using device = await Device.open();
  using x = Tensor.create(device, [64]);
  await rejectsWith(() => recordScale(device, x, x, 1), 'INVALID_ARGUMENT');
});

test('a flat range becomes rows of equal length', () => {
  for (const groups of [0, 1, 65535, 65536, 200_000, 8_388_607]) {
    const [x, y] = flatGrid(groups);
    assert.ok(x <= 65535 && x * y >= groups && x * y < groups + y, `${groups}: ${x} x ${y}`);
  }
});

test('the profiler counts calls, time and work', async () => {
  await using device = await Device.open({ profile: true });
  if (!device.profiler) {
    saySkipped('no timestamp-query on this adapter');
    return;
  }
  using x = tensorFrom(device, new Float32Array(4096).fill(1));
  using y = Tensor.create(device, [4096]);
  for (let i = 0; i < 10; i++) recordScale(device, x, y, 3);
  const [row] = await device.profiler.table();
  assert.is(row!.calls, 10);
  assert.is(row!.flops, 40960);
  assert.ok(row!.milliseconds > 0);
});

test.run();
