// Reading into arrays of the caller's, random numbers, and what memory is used for. Costs 1 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, downloadInto, Scope, Tensor, tensorFrom } from '../../engine/index.js';
import { random } from '../../kernels/index.js';
import { rejectsWith } from '../gpu.js';

let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(() => device.close());

test('downloadInto fills the array that it is given, whatever the dtype', async () => {
  const values = [1, -2.5, 3, 0.125];
  for (const dtype of ['f32', 'f16', 'bf16'] as const) {
    using tensor = tensorFrom(device, values, [2, 2], { dtype });
    const singles = new Float32Array(4);
    const doubles = new Float64Array(4);
    await downloadInto(tensor, singles);
    await downloadInto(tensor, doubles);
    assert.equal([...singles], values);
    assert.equal([...doubles], values);
  }
  using words = tensorFrom(device, Uint32Array.of(7, 2 ** 32 - 1));
  const target = new Uint32Array(2);
  await downloadInto(words, target);
  assert.equal([...target], [7, 2 ** 32 - 1]);
  // A part of a larger array is left as it is around it.
  const bytes = new Uint8Array(10);
  await downloadInto(words, bytes.subarray(1, 9));
  assert.equal([...bytes], [0, 7, 0, 0, 0, 255, 255, 255, 255, 0]);
  await rejectsWith(() => downloadInto(words, new Float32Array(2)), 'INVALID_ARGUMENT');
  await rejectsWith(() => downloadInto(words, new Uint32Array(3)), 'INVALID_ARGUMENT');
});

test('random numbers are those of the seed, and spread as they should', async () => {
  const count = 1 << 16;
  using out = Tensor.create(device, [count]);
  const draw = async (seed: number, distribution: 'uniform' | 'normal') => {
    random(device.recorder, out, { seed, distribution });
    return await downloadF32(out);
  };
  const moment = (values: Float32Array, power: number) =>
    values.reduce((sum, value) => sum + value ** power, 0) / count;
  const uniform = await draw(1, 'uniform');
  assert.equal(uniform, await draw(1, 'uniform'));
  assert.ok(uniform.every(value => value >= 0 && value < 1));
  // Four standard errors.
  assert.ok(Math.abs(moment(uniform, 1) - 1 / 2) < 4 * Math.sqrt(1 / 12 / count));
  assert.ok(Math.abs(moment(uniform, 2) - 1 / 3) < 4 * Math.sqrt(4 / 45 / count));
  const normal = await draw(2, 'normal');
  assert.ok(Math.abs(moment(normal, 1)) < 4 / Math.sqrt(count));
  assert.ok(Math.abs(moment(normal, 2) - 1) < 4 * Math.sqrt(2 / count));
  assert.ok(Math.abs(moment(normal, 4) - 3) < 4 * Math.sqrt(96 / count));
  // Neighbouring seeds have nothing to do with each other.
  const other = await draw(3, 'normal');
  const correlation = normal.reduce((sum, value, i) => sum + value * other[i]!, 0) / count;
  assert.ok(Math.abs(correlation) < 4 / Math.sqrt(count));
});

test('memory is told by label, and adds up', () => {
  const before = device.memory.tensors();
  using scope = new Scope(device);
  for (let i = 0; i < 3; i++) scope.tensor([1000], 'f32', 'rows');
  scope.tensor([1 << 18], 'f32', 'table');
  const now = device.memory.tensors();
  assert.equal(
    now
      .filter(({ label }) => label === 'rows' || label === 'table')
      .map(({ label, count }) => [label, count]),
    [
      ['table', 1],
      ['rows', 3],
    ],
  );
  assert.is(
    now.reduce((sum, { bytes }) => sum + bytes, 0),
    device.memory.liveBytes,
  );
  scope.dispose();
  assert.equal(device.memory.tensors(), before);
});

test.run();
