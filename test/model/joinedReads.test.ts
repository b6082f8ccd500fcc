// Ranges of joined tensors against the joined bytes, and of a GGUF file's reordered rows against the whole tensor. 1 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { seededRandom } from '../../engine/index.js';
import { joinedRuns } from '../../model/checkpoint/joinedReads.js';
import { inDtype, openCheckpoint } from '../../model/index.js';
import { dataPath } from '../support.js';

const random = seededRandom(5);
const below = (end: number) => Math.floor(random() * end);

/** Reads ranges of `whole` at random, of multiples of `unit` bytes, and compares them. */
async function compareRanges(
  whole: Uint8Array,
  unit: number,
  read: (target: Uint8Array, at: number) => Promise<void> | void,
): Promise<void> {
  const units = whole.length / unit;
  for (let round = 0; round < 60; round++) {
    const from = below(units);
    const count = 1 + below(units - from);
    const target = new Uint8Array(unit * count).fill(0xee);
    await read(target, unit * from);
    assert.equal(target, whole.subarray(unit * from, unit * (from + count)), `${from}, ${count}`);
  }
}

test('runs that lie apart, as if they followed each other', async () => {
  const file = Uint8Array.from({ length: 200 }, (_, i) => i);
  const [first, run, stride, runs] = [11, 7, 20, 9];
  const whole = new Uint8Array(run * runs).map((_, i) => first + Math.floor(i / run) * stride + (i % run));
  const read = joinedRuns(run, async (target, n, within) =>
    target.set(file.subarray(first + n * stride + within, first + n * stride + within + target.length)),
  );
  await compareRanges(whole, 1, read);
});

test('ranges of every tensor of a GGUF file and of a converted checkpoint', async () => {
  const gguf = await openCheckpoint(dataPath('gguf', 'tiny.gguf'));
  for (const [checkpoint, unit] of [
    [gguf, 1],
    [inDtype(gguf, 'f32'), 4],
  ] as const) {
    for (const name of checkpoint.names) {
      const whole = await checkpoint.read(name);
      const { blocks } = checkpoint.info(name);
      await compareRanges(whole, blocks ? 1 : unit, (target, at) => checkpoint.readInto(name, at, target));
    }
  }
  await gguf.close();
});

test.run();
