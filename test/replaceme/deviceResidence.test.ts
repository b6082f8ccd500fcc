/**
 * The software adapter's device memory as the system counts it, beside the plan: what is freed must be free. A second; with
 * RM_LARGE=1 two prunes in processes of their own, 30 s.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type SyntheticModel, writeSyntheticCheckpoint } from '../../bench/syntheticCheckpoint.js';
import { Device, Tensor, upload } from '../../engine/index.js';
import type { PruneOptions } from '../../replaceme/index.js';
import { deviceResidence, pruneWatched } from '../deviceResidence.js';
import { saySkipped, temporaryFolder } from '../support.js';
import { calibrationText } from './workplace.js';

const device = await Device.open();
const onLavapipe = /llvmpipe|lavapipe/i.test(device.info.description) && process.platform === 'linux';

if (!onLavapipe) saySkipped('device memory can be told from the program’s only on lavapipe');
else {
  test('what is destroyed counts until the driver has let it go', async () => {
    const before = deviceResidence(process.pid)!;
    const size = 64 << 20;
    const first = Tensor.create(device, [size / 4]);
    device.recorder.clear(first);
    await device.recorder.finish();
    first.dispose();
    device.memory.trim();
    assert.is(device.memory.leavingBytes, size);
    const second = Tensor.create(device, [size / 2]);
    device.recorder.clear(second);
    assert.is(device.memory.heldBytes, 3 * size);
    await device.recorder.finish();
    assert.is(device.memory.heldBytes, 2 * size);
    second.dispose();
    await device.reclaim();
    assert.is(device.memory.heldBytes, 0);
    assert.ok(deviceResidence(process.pid)! - before < size / 4);
  });

  test('weights take what they weigh, temporaries one of few sizes', () => {
    const bytes = 4 * 1_100_000;
    using weights = Tensor.create(device, [bytes / 4], 'f32', 'weights', 'weights');
    using temporary = Tensor.create(device, [bytes / 4]);
    assert.is(weights.buffer.bytes, Math.ceil(bytes / 256) * 256);
    assert.is(temporary.buffer.bytes, 5 * 2 ** 20);
  });

  /** Device memory that the driver takes on the way of an upload, which plans list apart. */
  async function stagingBytes(): Promise<number> {
    using target = Tensor.create(device, [24 << 20]);
    device.recorder.clear(target);
    await device.recorder.finish();
    const before = deviceResidence(process.pid)!;
    let most = before;
    const timer = setInterval(() => {
      most = Math.max(most, deviceResidence(process.pid)!);
    }, 1);
    await upload(target, new Uint8Array(target.byteLength));
    clearInterval(timer);
    return Math.max(most, deviceResidence(process.pid)!) - before;
  }

  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;

  const isLarge = process.env.RM_LARGE === '1';
  if (!isLarge) saySkipped('RM_LARGE is not 1: no models whose layers exceed what uploads take');
  const large = isLarge ? test : test.skip;
  large(
    'one layer at a time: no more is resident than 1.05 of the plan, and little of 200 layers',
    async () => {
      const staging = await stagingBytes();
      using folder = temporaryFolder();
      const at = (name: string) => join(folder.path, name);
      writeFileSync(at('texts.txt'), calibrationText);
      /** @param most resident bytes, by those of the plan. */
      const watch = async (
        name: string,
        model: SyntheticModel,
        options: PruneOptions,
        most: (plan: number) => number,
      ) => {
        await writeSyntheticCheckpoint(at(name), model);
        const { report, deviceBytes, samples } = await pruneWatched(at(name), at(`${name} pruned`), {
          ...{ layers: 2, tokens: 64, sequenceLength: 16, batchTokens: 32, report: 'none' },
          ...{ select: 'cosine', calibration: [at('texts.txt')], ...options },
        });
        const { memory, placement } = report.plan!;
        const told = `${name}: ${megabytes(deviceBytes)} resident in ${samples} samples, ${megabytes(report.peakMemoryBytes)} counted, ${megabytes(memory.total)} planned, ${megabytes(staging)} on the way, ${placement.weights}`;
        console.log(told);
        assert.not.equal(placement.weights, 'device', told);
        assert.ok(deviceBytes <= most(memory.total), told);
      };
      const large = { hidden: 1024, intermediate: 16384, heads: 8, kvHeads: 2, vocab: 4000, layers: 4 };
      await watch(
        'four large layers',
        large,
        { method: 'plain', memoryLimit: 260e6 },
        plan => 1.05 * plan + staging,
      );
      // A plan of half a megabyte: what is seen are the driver's own heaps and its pages for programs.
      const many = { hidden: 64, intermediate: 256, heads: 4, kvHeads: 2, vocab: 500, layers: 200 };
      await watch(
        '200 small layers',
        many,
        { method: 'plain', memoryLimit: 12e6 },
        plan => plan + (16 << 20),
      );
    },
  );
}

test.after(() => device.close());

test.run();
