// Downloads that wait: order, one wait for all, what is freed. About 1 s.
import assertNode from 'node:assert';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, LaterDownloads, Tensor, tensorFrom } from '../../engine/index.js';

const test = suite('later downloads');

test('values arrive together, in the order of the calls, by one wait, and their tensors are freed', async () => {
  await using device = await Device.open({ profile: true });
  using later = new LaterDownloads(device);
  const seen: number[][] = [];
  const live = device.memory.liveBytes;
  for (const start of [0, 10, 20]) {
    const [a, b] = [1, 3].map(length =>
      tensorFrom(
        device,
        Float32Array.from({ length }, (_, i) => start + i),
      ),
    );
    await later.readF32([a!, b!], values => seen.push(values.flatMap(each => [...each])));
  }
  const empty = Tensor.create(device, [0]);
  await later.readF32([empty], ([values]) => seen.push([...values!]));
  assert.equal(seen, []);
  {
    using _ = device.section('arriving');
    await later.arrive();
  }
  assert.equal(seen, [[0, 0, 1, 2], [10, 10, 11, 12], [20, 20, 21, 22], []]);
  const sections = (await device.profiler?.sections()) ?? [];
  for (const { waits } of sections.filter(({ section }) => section === 'arriving')) assert.is(waits, 1);
  assert.is(device.memory.liveBytes, live);
  await later.arrive();
  assert.is(seen.length, 4);
});

test('what exceeds a share of the memory limit arrives by itself', async () => {
  await using device = await Device.open({ memoryLimit: 256 * 4096 });
  using later = new LaterDownloads(device);
  let arrived = 0;
  for (let i = 0; i < 2; i++) {
    await later.read([tensorFrom(device, new Float32Array(1000))], () => arrived++);
  }
  assert.is(arrived, 2);
});

test('a failure of the device, or of whoever uses the values, frees what waits', async () => {
  await using device = await Device.open();
  using later = new LaterDownloads(device);
  const live = device.memory.liveBytes;
  await later.read([tensorFrom(device, new Float32Array(4))], () => {
    throw new Error('not finite');
  });
  await later.read([tensorFrom(device, new Float32Array(4))], () => {});
  await assertNode.rejects(later.arrive(), /not finite/);
  assert.is(device.memory.liveBytes, live);
});

test.run();
