import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type FaithfulOptions,
  faithfulBatches,
  faithfulCalibration,
} from '../../replaceme/calibration/faithfulCalibration.js';
import { rejectsWith } from '../gpu.js';
import { asText, characters, chat } from '../model/characters.js';
import { temporaryFolder } from '../support.js';

const folder = temporaryFolder();
test.after(() => folder[Symbol.dispose]());
const tokenizer = { ...characters(true), specialTokens: { eos_token: '$' } };

function read(lines: readonly object[], options: Partial<FaithfulOptions> = {}) {
  const path = join(folder.path, 'texts.jsonl');
  writeFileSync(path, lines.map(line => JSON.stringify(line)).join('\n'));
  return faithfulCalibration(tokenizer, chat, {
    files: [path],
    tokens: 10_000,
    sequenceLength: 6,
    ...options,
  });
}

const words = [
  'a',
  'bcdefghijk',
  'lm',
  'nopq',
  'r',
  's',
  't',
  'u',
  'vw',
  'x',
  'y',
  'z',
  '1',
  '2',
  '3',
  '45',
  '6',
];
const sentences = words.map(text => ({ text }));

test('special tokens come on top of the template, texts are cut, and the last ones fill no batch', async () => {
  const talk = { messages: [{ role: 'user', content: 'hello' }] };
  const { sequences, tokens, files } = await read([talk, ...sentences]);
  assert.is(sequences.length, 16, 'of 18');
  assert.equal(
    sequences.slice(0, 4).map(({ ids }) => asText(ids)),
    ['<^hell', '<a', '<bcdef', '<lm'],
  );
  assert.ok(sequences.every(({ half, source }) => half === 0 && source === 0));
  assert.is(tokens, sequences.flatMap(({ ids }) => ids).length);
  assert.is(files[0]!.tokens, tokens);
});

test('texts are padded on the right to the longest of eight, also where the eight are divided', async () => {
  const calibration = await read(sentences);
  const expected = [
    ...['<a$$$$', '<bcdef', '<lm$$$', '<nopq$', '<r$$$$', '<s$$$$', '<t$$$$', '<u$$$$'],
    ...['<vw', '<x$', '<y$', '<z$', '<1$', '<2$', '<3$', '<45'],
  ];
  const real = [2, 6, 3, 5, 2, 2, 2, 2, 3, 2, 2, 2, 2, 2, 2, 3];
  for (const [batchTokens, sizes] of [
    [1000, [8, 8]],
    [18, [3, 3, 2, 6, 2]],
    [1, new Array(16).fill(1)],
  ] as const) {
    const batches = await faithfulBatches(calibration, tokenizer, batchTokens);
    assert.equal(
      batches.map(({ sequences }) => sequences.length),
      sizes,
    );
    assert.equal(
      batches.flatMap(({ sequences }) => sequences.map(asText)),
      expected,
    );
    assert.equal(
      batches.flatMap(({ lengths }) => lengths!),
      real,
    );
    assert.ok(batches.every(({ half, weight }) => half === 0 && weight === 1));
  }
  const stated = { ...tokenizer, specialTokens: { eos_token: '$', pad_token: '#' } };
  const [first] = await faithfulBatches(calibration, stated, 1);
  assert.is(asText(first!.sequences[0]!), '<a####');
});

test('reading ends by texts or by tokens, without a piece of the next text', async () => {
  assert.is((await read(sentences, { texts: 8 })).sequences.length, 8);
  assert.is((await read(sentences, { texts: 15 })).sequences.length, 8);
  assert.is((await read(sentences, { tokens: 24 })).sequences.length, 8);
  const message = await rejectsWith(() => read(sentences, { tokens: 23 }), 'DATA_INVALID');
  assert.match(message, '7 texts');
});

test.run();
