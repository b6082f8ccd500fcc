import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RmError } from '../../engine/index.js';
import type { ChatTemplate } from '../../model/text/chat.js';
import type { Tokenizer } from '../../model/text/tokenizer.js';
import { evenShares, interleave } from '../../replaceme/calibration/collectSequences.js';
import { withMaskedCopies } from '../../replaceme/calibration/maskedCopies.js';
import { calibrationBatches } from '../../replaceme/calibration/packBatches.js';
import {
  type Calibration,
  type CalibrationOptions,
  calibrationWarnings,
  readCalibration,
} from '../../replaceme/calibration/readCalibration.js';
import { rejectsWith } from '../gpu.js';
import { asText, characters, chat } from '../model/characters.js';
import { temporaryFolder } from '../support.js';

const folder = temporaryFolder();
test.after(() => folder[Symbol.dispose]());

/** A file of documents; `lines` are objects of .jsonl. */
function file(name: string, lines: readonly object[]): string {
  const path = join(folder.path, name);
  writeFileSync(path, lines.map(line => JSON.stringify(line)).join('\n'));
  return path;
}

/** Every document consists of a letter of its own, so that a token tells where it comes from. */
const letter = (index: number) => String.fromCharCode(0x4e00 + index);
const texts = (count: number, length: number, first = 0) =>
  Array.from({ length: count }, (_, i) => ({ text: letter(first + i).repeat(length) }));
const talks = (count: number, length: number, first = 0) =>
  Array.from({ length: count }, (_, i) => ({
    messages: [{ role: 'user', content: letter(first + i).repeat(length) }],
  }));

const tokenizer = characters(true);
const read = (options: Partial<CalibrationOptions>): Promise<Calibration> =>
  readCalibration(tokenizer, chat, { tokens: 1000, sequenceLength: 50, ...options });

/** Tokens by source and half. */
function counts({ sequences, files }: Calibration): number[][] {
  const found = files.map(() => [0, 0]);
  for (const { ids, source, half } of sequences) found[source]![half]! += ids.length;
  return found;
}

test('a document is in one half only, and every source has half of its tokens in each', async () => {
  const files = [file('halves-texts.jsonl', texts(60, 23)), file('halves-talks.jsonl', talks(20, 120, 100))];
  for (const tokens of [400, 1000, 1001]) {
    const calibration = await read({ files, tokens });
    assert.is(calibration.tokens, tokens);
    assert.is(
      calibration.sequences.reduce((sum, { ids }) => sum + ids.length, 0),
      tokens,
      'kept exactly',
    );
    const halfOf = new Map<string, number>();
    for (const { ids, half } of calibration.sequences) {
      assert.ok(ids.length <= 50);
      for (const sign of asText(ids).replace(/[<^\n]/g, '')) {
        assert.is(halfOf.get(sign) ?? half, half, 'seen in the other half');
        halfOf.set(sign, half);
      }
    }
    for (const count of counts(calibration).flat()) assert.ok(Math.abs(count - tokens / 4) <= 1, `${count}`);
  }
});

test('a long document takes no more than its share, and a short source leaves the rest to the others', async () => {
  const files = [
    file('book.jsonl', [...texts(1, 5000), ...texts(40, 30, 1)]),
    file('short.jsonl', texts(4, 20, 100)),
    file('many.jsonl', talks(100, 60, 200)),
  ];
  const calibration = await read({ files, tokens: 900 });
  // Two texts a half, an empty line between and BOS before: 20 + 2 + 20 + 1.
  const found = counts(calibration);
  assert.equal(found[1], [43, 43]);
  assert.equal(
    calibration.files.map(({ tokens }) => tokens),
    [407, 86, 407],
  );
  for (const [first, second] of found) assert.ok(Math.abs(first! - second!) <= 1, `${found}`);
});

test('all is read where more is asked for than there is, a source of one document by sequences', async () => {
  const files = [file('all.jsonl', texts(3, 30)), file('one.jsonl', texts(1, 40, 50))];
  const calibration = await read({ files, tokens: 100_000 });
  assert.equal(counts(calibration), [
    [30 + 2 + 30 + 2, 31],
    [20, 21],
  ]);
});

test('a single document is divided by sequences, a single sequence in the middle', async () => {
  const text = Array.from({ length: 400 }, (_, i) => letter(i)).join('');
  const first = ({ sequences }: Calibration) =>
    [...sequences].map(({ ids, half }) => [asText(ids)[1], ids.length, half]);
  const long = await read({ files: [file('single.jsonl', [{ text }])], tokens: 200 });
  assert.equal(
    first(long).sort((a, b) => (a[0]! < b[0]! ? -1 : 1)),
    [0, 1, 2, 3].map(i => [letter(49 * i), 50, i % 2]),
  );
  const beforeShort = [{ text }, { text: 'x' }];
  assert.equal(counts(await read({ files: [file('two.jsonl', beforeShort)], tokens: 200 })), [[100, 100]]);
  const plain = join(folder.path, 'lines.txt');
  writeFileSync(plain, text.replaceAll(/.{20}/g, '$&\n'));
  assert.equal(counts(await read({ files: [plain], tokens: 200 })), [[100, 100]]);
  const short = await read({ files: [file('short.jsonl', [{ text: text.slice(0, 21) }])], tokens: 200 });
  assert.equal(first(short), [
    [letter(0), 11, 0],
    [letter(11), 11, 1],
  ]);
});

test('a long document is read as far as tokens are needed, in sequences of any number', async () => {
  const text = 'abcdefgh'.repeat(400_000);
  let characters = 0;
  const counting: Tokenizer = {
    ...tokenizer,
    encodeBatch: (list, options) => {
      for (const { length } of list) characters += length;
      return tokenizer.encodeBatch(list, options);
    },
  };
  const options = { files: [file('long.jsonl', [{ text }])], sequenceLength: 8 };
  const few = await readCalibration(counting, chat, { ...options, tokens: 1000 });
  assert.is(few.tokens, 1000);
  assert.ok(characters < 100_000, `${characters} characters encoded`);
  const all = await readCalibration(counting, chat, { ...options, tokens: 4_000_000 });
  assert.is(all.sequences.length, Math.floor(text.length / 7));
});

test('rows that the template refuses are named, or left out and counted', async () => {
  const strict: ChatTemplate = {
    ...chat,
    renderChat: async (messages, options) => {
      if (messages[0]!.content === 'bad') throw new RmError('DATA_INVALID', 'no', 'Correct it.');
      return chat.renderChat(messages, options);
    },
  };
  const bad = { messages: [{ role: 'user', content: 'bad' }] };
  const path = file('bad.jsonl', [...talks(5, 60), bad, { text: null }, ...talks(5, 60, 10), bad]);
  const options = { files: [path], tokens: 100_000, sequenceLength: 50 };
  const error = await readCalibration(tokenizer, strict, options).then(
    () => assert.unreachable(),
    caught => caught as RmError,
  );
  assert.match((error as RmError).message, `${path}:6: no`);
  assert.match((error as RmError).fix, 'skipInvalid');
  const { files } = await readCalibration(tokenizer, strict, { ...options, skipInvalid: true });
  assert.equal(files[0]!.leftOut, { empty: 1, invalid: 2, firstInvalid: `${path}:6: no` });
  assert.is(files[0]!.documents, 10);
  assert.equal(calibrationWarnings(files), [
    `${path}: 2 rows that cannot be used were left out, the first: ${path}:6: no`,
    `${path}: 1 row without text was left out`,
  ]);
});

test('of long conversations the first pieces are taken, later ones only where there are no more conversations', async () => {
  const files = [file('long-talks.jsonl', talks(12, 120))];
  const lettersOf = ({ sequences }: Calibration) =>
    sequences.map(({ ids }) => asText(ids).match(/[\u4e00-\u4eff]/)![0]);
  const few = await read({ files, tokens: 500 });
  assert.is(new Set(lettersOf(few)).size, few.sequences.length, 'every sequence is of another conversation');
  const all = await read({ files, tokens: 1200 });
  assert.is(all.tokens, 1200);
  assert.is(new Set(lettersOf(all)).size, 12);
  assert.ok(lettersOf(all).length > 12, 'and then their second pieces');
});

test('any beginning of the sequences is a fair sample of sources and halves', async () => {
  const files = [file('fair-texts.jsonl', texts(90, 40)), file('fair-talks.jsonl', talks(90, 45, 100))];
  const { sequences } = await read({ files, tokens: 4000 });
  const found = [
    [0, 0],
    [0, 0],
  ];
  for (const { ids, source, half } of sequences) {
    found[source]![half]! += ids.length;
    const all = found.flat();
    assert.ok(Math.max(...all) - Math.min(...all) <= 100, `${all}`);
  }
});

test('files are described by path, hash, weight, tokens and documents', async () => {
  const files = [file('described-a.jsonl', texts(9, 30)), file('described-b.jsonl', texts(9, 30, 20))];
  const calibration = await read({ files, tokens: 200, weights: [1, 2.5] });
  for (const [i, path] of files.entries()) {
    assert.equal(calibration.files[i], {
      path,
      sha256: createHash('sha256').update(readFileSync(path)).digest('hex'),
      weight: [1, 2.5][i],
      tokens: 100,
      documents: 4,
    });
  }
});

test('batches hold one half and one weight, at most so many tokens, every sequence once', async () => {
  const files = [
    file('batch-a.jsonl', texts(60, 37)),
    file('batch-b.jsonl', talks(60, 41, 100)),
    file('batch-c.jsonl', talks(4, 41, 200)),
  ];
  const calibration = await read({ files, tokens: 2000, weights: [1, 3, 1] });
  const batches = calibrationBatches(calibration, 120);
  const place = new Map(calibration.sequences.map(sequence => [sequence.ids, sequence]));
  const weights = new Map<number, number>();
  let [tokens, weighed] = [0, 0];
  for (const { sequences, half, weight, lengths } of batches) {
    assert.is(lengths, undefined);
    const count = sequences.reduce((sum, ids) => sum + ids.length, 0);
    assert.ok(count <= 120);
    tokens += count;
    weighed += weight * count;
    for (const ids of sequences) {
      const sequence = place.get(ids)!;
      assert.ok(place.delete(ids));
      assert.is(sequence.half, half);
      const given = calibration.files[sequence.source]!.weight;
      assert.is(weights.get(given) ?? weight, weight);
      weights.set(given, weight);
    }
  }
  assert.is(place.size, 0);
  assert.is(tokens, 2000);
  assert.ok(Math.abs(weighed / tokens - 1) < 1e-12, `mean weight ${weighed / tokens}`);
  assert.ok(Math.abs(weights.get(3)! / weights.get(1)! - 3) < 1e-12);
  // Of the first eight batches, two are of every half and weight.
  const kinds = batches.slice(0, 8).map(({ half, weight }) => `${half} ${weight}`);
  for (const kind of new Set(kinds)) assert.ok(kinds.filter(other => other === kind).length <= 3, `${kinds}`);
  assert.is(new Set(kinds).size, 4);
});

test('without weights every token counts 1, and sources share batches', async () => {
  const files = [file('plain-a.jsonl', texts(30, 40)), file('plain-b.jsonl', texts(30, 40, 100))];
  const calibration = await read({ files, tokens: 800 });
  const batches = calibrationBatches(calibration, 100);
  assert.equal(
    batches.map(({ half, weight }) => [half, weight]),
    [0, 1, 0, 1, 0, 1, 0, 1].map(half => [half, 1]),
  );
});

test('a masked copy follows every sequence: a share of its positions holds tokens of the same half', async () => {
  const files = [file('mask.jsonl', texts(60, 31))];
  const plain = await read({ files, tokens: 1200 });
  const { sequences, tokens, files: described } = await read({ files, tokens: 1200, mask: 0.3, seed: 5 });
  assert.is(tokens, 2400);
  assert.is(described[0]!.tokens, 2400);
  assert.is(sequences.length, 2 * plain.sequences.length);
  const known = [0, 1].map(
    half => new Set(plain.sequences.filter(sequence => sequence.half === half).flatMap(({ ids }) => ids)),
  );
  let [changed, maskable] = [0, 0];
  for (const [i, original] of plain.sequences.entries()) {
    assert.equal(sequences[2 * i], original);
    const copy = sequences[2 * i + 1]!;
    assert.equal([copy.source, copy.half, copy.ids.length], [0, original.half, original.ids.length]);
    assert.is(copy.ids[0], original.ids[0]);
    const different = copy.ids.filter((id, at) => id !== original.ids[at]).length;
    assert.ok(different <= Math.round(0.3 * (original.ids.length - 1)));
    assert.ok(copy.ids.every(id => known[original.half]!.has(id)));
    changed += different;
    maskable += original.ids.length - 1;
  }
  // A draw may give the token that was there: with 20 letters in a half, one in twenty or so.
  assert.ok(changed / maskable > 0.26 && changed / maskable < 0.31, `${changed / maskable}`);
  const again = await read({ files, tokens: 1200, mask: 0.3, seed: 5 });
  const other = await read({ files, tokens: 1200, mask: 0.3, seed: 6 });
  assert.equal(again.sequences, sequences);
  assert.not.equal(other.sequences, sequences);
});

test('every position behind the first is as likely to be masked', () => {
  const ids = Array.from({ length: 21 }, (_, i) => i);
  const others = Array.from({ length: 1000 }, (_, i) => 100 + i);
  const hits = ids.map(() => 0);
  for (let seed = 0; seed < 2000; seed++) {
    const [, copy] = withMaskedCopies(
      [
        { ids, source: 0, half: 0 },
        { ids: others, source: 0, half: 0 },
      ],
      0.25,
      seed,
    );
    for (const [position, id] of copy!.ids.entries()) if (id !== position) hits[position]!++;
  }
  assert.is(hits[0], 0);
  // 5 of 20 positions: 500 of 2000 expected, less the few draws of the same token; standard deviation 19.
  for (const count of hits.slice(1)) assert.ok(Math.abs(count - 499) < 5 * 19, `${hits}`);
});

test('weights and masks that cannot be, and files without tokens, are typed errors', async () => {
  const files = [file('wrong-a.jsonl', texts(9, 30)), file('wrong-b.jsonl', texts(9, 30, 20))];
  const wrong = (options: Partial<CalibrationOptions>) =>
    rejectsWith(() => read({ files, ...options }), 'INVALID_ARGUMENT');
  assert.match(await wrong({ weights: [1] }), '1 weights for 2');
  assert.match(await wrong({ weights: [1, 1, 1] }), '3 weights for 2');
  for (const weight of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.match(await wrong({ weights: [1, weight] }), `weight ${weight}`);
  }
  for (const mask of [0, 1, -0.5, Number.NaN]) assert.match(await wrong({ mask }), `${mask}`);
  await wrong({ sequenceLength: 1 });
  const empty = join(folder.path, 'empty.txt');
  writeFileSync(empty, '');
  await rejectsWith(() => read({ files: [empty] }), 'DATA_INVALID');
});

test('shares are even, whole, within bounds, and add up', () => {
  assert.equal(evenShares(10, [100, 100]), [5, 5]);
  assert.equal(evenShares(10, [2, 100, 100]), [2, 4, 4]);
  assert.equal(evenShares(11, [100, 3, 100]), [4, 3, 4]);
  assert.equal(evenShares(100, [7, 1, 5]), [7, 1, 5]);
  assert.equal(evenShares(Number.POSITIVE_INFINITY, [7, 0]), [7, 0]);
  for (let total = 0; total < 40; total++) {
    const shares = evenShares(total, [3, 9, 9, 30]);
    assert.is(
      shares.reduce((a, b) => a + b),
      total,
    );
  }
});

test('lists are merged by the share of tokens they have come to', () => {
  assert.equal(
    interleave([[4, 4, 4, 4], [8], []], size => size),
    [4, 4, 8, 4, 4],
  );
  assert.equal(
    interleave([[1, 2], [3]], size => size),
    [1, 3, 2],
  );
});

test.run();
