import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadU32, type Tensor } from '../../engine/index.js';
import { Batch, groupSequences } from '../../model/transformer/batch.js';
import { rejectsWith } from '../gpu.js';

let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(async () => {
  await device.close();
});

const values = async (tensor: Tensor) => [...(await downloadU32(tensor))];
/** "first..end" of every token, a line per sequence. */
async function ranges(batch: Batch, window: number | null): Promise<string[]> {
  const flat = await values(batch.ranges(window));
  let row = 0;
  return batch.sequences.map(sequence =>
    sequence.map(() => `${flat[2 * row]}..${flat[2 * row++ + 1]}`).join(' '),
  );
}

const sequences = [[7, 8, 9, 10], [5], [1, 2, 3]];

test('sequences lie side by side, each from position 0', async () => {
  using batch = new Batch(device, sequences);
  assert.is(batch.tokens, 8);
  assert.is(batch.longest, 4);
  assert.equal(await values(batch.ids), [7, 8, 9, 10, 5, 1, 2, 3]);
  assert.equal(await values(batch.positions), [0, 1, 2, 3, 0, 0, 1, 2]);
});

test('a token attends to its own sequence up to itself', async () => {
  using batch = new Batch(device, sequences);
  assert.equal(await ranges(batch, null), ['0..1 0..2 0..3 0..4', '4..5', '5..6 5..7 5..8']);
  assert.is(batch.ranges(null), batch.ranges(null), 'made once');
});

test('a sliding window keeps the last tokens, itself included', async () => {
  using batch = new Batch(device, sequences);
  assert.equal(await ranges(batch, 2), ['0..1 0..2 1..3 2..4', '4..5', '5..6 5..7 6..8']);
  assert.equal(await ranges(batch, 100), await ranges(batch, null));
});

test('behind a cache, positions and keys go on', async () => {
  using batch = new Batch(device, [[4, 5, 6]], { past: 10 });
  assert.is(batch.longest, 13);
  assert.equal(await values(batch.positions), [10, 11, 12]);
  assert.equal(await ranges(batch, null), ['0..11 0..12 0..13']);
  assert.equal(await ranges(batch, 4), ['7..11 8..12 9..13']);
});

test('what sequences share has one row, and every sequence a stretch of keys of its own', async () => {
  const tree = [
    [7, 8, 9],
    [7, 8, 5, 6],
    [7, 8, 5],
    [1, 2],
  ];
  using batch = new Batch(device, tree, { shared: [0, 2, 3, 0] });
  assert.is(batch.tokens, 7);
  assert.equal(await values(batch.ids), [7, 8, 9, 5, 6, 1, 2]);
  assert.equal(await values(batch.positions), [0, 1, 2, 2, 3, 0, 1]);
  assert.equal(batch.rowsOf, [
    [0, 1, 2],
    [0, 1, 3, 4],
    [0, 1, 3],
    [5, 6],
  ]);
  assert.equal(batch.lastRows, [2, 4, 3, 6]);
  assert.equal(await values(batch.keyRows!), [0, 1, 2, 0, 1, 3, 4, 0, 1, 3, 5, 6]);
  const bounds = async (window: number | null) => (await values(batch.ranges(window))).join(' ');
  assert.is(await bounds(null), '0 1 0 2 0 3 3 6 3 7 10 11 10 12');
  assert.is(await bounds(2), '0 1 0 2 1 3 4 6 5 7 10 11 10 12');
  using plain = new Batch(device, sequences);
  assert.is(plain.keyRows, undefined);
});

test('padding goes on counting positions and sees the real tokens only', async () => {
  const padded = [
    [7, 8, 0, 0, 0],
    [1, 2, 3, 4, 5],
    [6, 0, 0, 0, 0],
  ];
  using batch = new Batch(device, padded, { lengths: [2, 5, 1] });
  assert.is(batch.tokens, 15);
  assert.equal(batch.lastRows, [1, 9, 10]);
  assert.equal(await values(batch.positions), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
  assert.equal(await ranges(batch, null), [
    '0..1 0..2 0..2 0..2 0..2',
    '5..6 5..7 5..8 5..9 5..10',
    '10..11 10..11 10..11 10..11 10..11',
  ]);
  // Of a window of 2 the last real token leaves the sight of the padding, and an empty range gives zeros.
  assert.equal(await ranges(batch, 2), [
    '0..1 0..2 1..2 2..2 2..2',
    '5..6 5..7 6..8 7..9 8..10',
    '10..11 10..11 11..11 11..11 11..11',
  ]);
});

test('the last rows without padding', () => {
  using batch = new Batch(device, sequences);
  assert.equal(batch.lastRows, [3, 4, 7]);
});

test('dispose gives everything back, and so does a lack of memory', async () => {
  const batch = new Batch(device, sequences);
  batch.ranges(null);
  batch.ranges(2);
  batch.dispose();
  assert.is(device.memory.liveBytes, 0);
  await using small = await Device.open({ memoryLimit: 3000 });
  const tokens = [new Array<number>(100).fill(1)];
  await rejectsWith(() => new Batch(small, [tokens[0]!.concat(...tokens, ...tokens)]), 'OUT_OF_MEMORY');
  assert.is(small.memory.liveBytes, 0);
  // Room for the tokens, not for further ranges.
  const tight = new Batch(small, tokens);
  await rejectsWith(() => tight.ranges(2), 'OUT_OF_MEMORY');
  tight.dispose();
  assert.is(small.memory.liveBytes, 0);
});

test('groups keep the order and the limit; a longer sequence stands alone', () => {
  const lengths = (tokens: number, ...given: number[]) =>
    groupSequences(
      given.map(length => ({ length })),
      tokens,
    ).map(group => group.map(({ length }) => length));
  assert.equal(lengths(10, 4, 6, 1, 9, 3), [[4, 6], [1, 9], [3]]);
  assert.equal(lengths(10, 4, 25, 4), [[4], [25], [4]]);
  assert.equal(lengths(1, 1, 1, 5), [[1], [1], [5]]);
  assert.equal(lengths(10, 0, 10), [[0, 10]]);
  assert.equal(lengths(10), []);
});

test.run();
