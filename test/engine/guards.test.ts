import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, type ProgramSpec, Tensor, tensorFrom } from '../../engine/index.js';
import { rejectsWith } from '../gpu.js';

/** out[i] = x[index of i], and what `write` says of the output's index. Takes a second. */
const program = (index: string, write = 'i'): ProgramSpec => ({
  key: `guard test ${index} ${write}`,
  bindings: { x: 'read f32', out: 'write f32' },
  wgsl: `
@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) id: vec3u) {
  let i = id.x;
  out[${write}] = x[${index}];
}`,
});

/** Runs a program on 5 elements and closes the device. */
async function run(index: string, write?: string): Promise<number[]> {
  const device = await Device.open({ guards: true });
  try {
    using x = tensorFrom(device, Float32Array.of(1, 2, 3, 4, 5), [5], 'f32');
    using out = Tensor.create(device, [5], 'f32', 'result');
    device.recorder.dispatch({ program: program(index, write), tensors: { x, out }, grid: [5] });
    return [...(await downloadF32(out))];
  } finally {
    await device.close();
  }
}

test('a program that keeps to its tensors passes', async () => {
  assert.equal(await run('4u - i'), [5, 4, 3, 2, 1]);
});

test('what is read behind a tensor, far away, or before anything was written is NaN', async () => {
  assert.equal(await run('i + 1u'), [2, 3, 4, 5, Number.NaN]);
  assert.equal(await run('i + 1000u'), new Array(5).fill(Number.NaN));
  assert.equal(await run('i + 1000000000u'), new Array(5).fill(Number.NaN));
  assert.equal(await run('i - 1u'), [Number.NaN, 1, 2, 3, 4]);
  assert.equal(await run('i', 'i + 3u * u32(i > 1u)'), [1, 2, Number.NaN, Number.NaN, Number.NaN]);
});

test('what is written behind a tensor is found when the device closes', async () => {
  for (const write of ['i + 7u', 'i + 500u', 'i - 1u'])
    assert.match(await rejectsWith(() => run('i', write), 'GPU_ERROR'), /behind 'result'/);
});

test.run();
