// A batch is recorded while the device runs the one before, and not sooner. 1 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { forEachBatch } from '../../replaceme/calibration/forEachBatch.js';
import { plainBatches } from './workplace.js';

const batches = plainBatches(
  [
    [1, 2],
    [3, 4],
    [5, 6],
    [7, 8],
  ],
  2,
);

test('batch i + 1 is recorded before batch i is awaited, batch i + 2 after', async () => {
  await using device = await Device.open();
  const events: string[] = [];
  const ends: (() => void)[] = [];
  const { drain } = device;
  device.drain = () =>
    new Promise(resolve => {
      const index = ends.length;
      ends.push(() => {
        events.push(`end ${index}`);
        resolve();
      });
    });
  await forEachBatch(device, {}, 'test', batches, ({ index }) => {
    events.push(`record ${index}`);
    // The device ends a batch only once the next is recorded: waiting for each in turn would never end.
    ends[index - 1]?.();
    if (index === batches.length - 1) setTimeout(() => ends[index]!(), 10);
  });
  device.drain = drain;
  assert.equal(events, [
    ...['record 0', 'record 1', 'end 0', 'record 2', 'end 1', 'record 3', 'end 2', 'end 3'],
  ]);
});

test('the failure of the last batch is thrown', async () => {
  await using device = await Device.open();
  const { drain } = device;
  let waits = 0;
  device.drain = () => (++waits === batches.length ? Promise.reject(new Error('lost')) : Promise.resolve());
  const thrown = await forEachBatch(device, {}, 'test', batches, () => {}).catch((error: Error) => error);
  device.drain = drain;
  assert.is((thrown as Error).message, 'lost');
});

test.run();
