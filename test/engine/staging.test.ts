// Uploads through staging buffers: bytes, failures, what they wait for. 3 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, download, STAGING_BYTES, Tensor, upload, uploadFrom } from '../../engine/index.js';
import { rejectsWith } from '../gpu.js';

const PIECE = 16 << 20;

/** Byte `at` of a source that differs from piece to piece. */
const byteAt = (at: number): number => (at * 7 + (at >> 8) * 13 + (at >> 16)) & 255;
const write = (target: Uint8Array, at: number) => {
  for (let i = 0; i < target.length; i++) target[i] = byteAt(at + i);
};

test('bytes of every size arrive, in as few buffers as are counted', async () => {
  await using device = await Device.open();
  // Below and above what is written without staging buffers, odd numbers of 16-bit values, several pieces.
  for (const size of [1, 3, 131_073, PIECE / 2 + 1, PIECE + 3]) {
    using tensor = Tensor.create(device, [size], 'bf16', 'odd');
    await uploadFrom(tensor, write);
    const found = await download(tensor);
    const expected = new Uint8Array(2 * size);
    write(expected, 0);
    assert.is(Buffer.compare(found, expected), 0, `${size} values`);
    await upload(tensor, expected.fill(9));
    assert.is(Buffer.compare(await download(tensor), expected), 0, `${size} values from memory`);
  }
  assert.ok(device.staging.bytes > 0 && device.staging.bytes <= STAGING_BYTES);
  assert.is(device.staging.mapped, 0);
});

test('many uploads at once share the buffers, and none waits for the whole queue', async () => {
  await using device = await Device.open();
  const { queue } = device.gpu;
  let drains = 0;
  const done = queue.onSubmittedWorkDone.bind(queue);
  queue.onSubmittedWorkDone = () => {
    drains++;
    return done();
  };
  const tensors = Array.from({ length: 9 }, () => Tensor.create(device, [1 << 18], 'f32', 'one of many'));
  await Promise.all(tensors.map((tensor, n) => uploadFrom(tensor, target => void target.fill(n))));
  assert.is(drains, 0);
  for (const [n, tensor] of tensors.entries()) assert.ok((await download(tensor)).every(byte => byte === n));
  assert.ok(device.staging.bytes <= STAGING_BYTES);
});

test('a read that fails is thrown once its other reads have ended, and leaves no buffer mapped', async () => {
  await using device = await Device.open();
  using tensor = Tensor.create(device, [3 * (PIECE / 4)], 'f32', 'broken');
  for (let round = 0; round < 6; round++) {
    let reading = 0;
    const read = async (target: Uint8Array, at: number) => {
      reading++;
      await new Promise(resolve => setTimeout(resolve, at === 0 ? 20 : 1));
      target.fill(1);
      reading--;
      if (at === PIECE) throw new Error('the file ended');
    };
    let message = '';
    await uploadFrom(tensor, read).catch(error => {
      message = error.message;
    });
    assert.is(message, 'the file ended');
    assert.is(reading, 0);
    assert.is(device.staging.mapped, 0);
  }
  await uploadFrom(tensor, target => void target.fill(5));
  assert.ok((await download(tensor)).every(byte => byte === 5));
});

test('a device that is closed during a read waits for it; the upload then fails', async () => {
  const device = await Device.open();
  const tensor = Tensor.create(device, [PIECE / 4], 'f32', 'late');
  let reading = false;
  let begun = () => {};
  const started = new Promise<void>(resolve => {
    begun = resolve;
  });
  const uploading = rejectsWith(
    () =>
      uploadFrom(tensor, async target => {
        reading = true;
        begun();
        await new Promise(resolve => setTimeout(resolve, 50));
        target.fill(1);
        reading = false;
      }),
    'DEVICE_LOST',
  );
  await started;
  await device.close();
  assert.not.ok(reading);
  await uploading;
});

test.run();
