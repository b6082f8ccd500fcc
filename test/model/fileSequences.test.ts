import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type FileOptions, fileSequences } from '../../model/text/fileSequences.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { asText, BOS, characters, chat } from './characters.js';

const reader = { tokenizer: characters(true), chat };

async function read(name: string, content: string, options: Partial<FileOptions> = {}) {
  using folder = temporaryFolder();
  const path = join(folder.path, name);
  writeFileSync(path, content);
  return await fileSequences(path, reader, { sequenceLength: 10, ...options });
}

/** BOS and windows over the raw text, as a few lines of Python have them. */
function windows(text: string, length: number): number[][] {
  const ids = Array.from(text, character => character.charCodeAt(0));
  return Array.from({ length: Math.ceil(ids.length / (length - 1)) }, (_, i) => [
    BOS,
    ...ids.slice(i * (length - 1), (i + 1) * (length - 1)),
  ]);
}

const texts = [
  'A b c\n \n\n\n = D = \n e f  \n',
  'one two  \nthree\t\n\nfour \n',
  'one two\r\nthree\r\n\r\nfour\r\n',
  '\n\n  begins and ends with space \n\n',
  'x\0y\u2028z',
];

for (const text of texts) {
  test(`a text is measured as it is: ${JSON.stringify(text)}`, async () => {
    for (const times of [1, 40, 41, 5000]) {
      const whole = text.repeat(times);
      const expected = windows(whole, 10);
      assert.equal((await read('a.txt', whole)).sequences, expected);
      assert.equal((await read('a.jsonl', JSON.stringify({ text: whole }))).sequences, expected);
      const cut = await read('a.txt', whole, { tokens: 25 });
      assert.equal(cut.sequences.flat(), expected.flat().slice(0, 25));
    }
  });
}

test('a byte order mark is no text; texts of a file are counted, conversations stand alone', async () => {
  assert.equal((await read('a.txt', '\ufeffabc')).sequences.map(asText), ['<abc']);
  const rows = ['{"text": "abc"}', '{"messages": [{"role": "user", "content": "x"}]}', '{"text": "de"}'];
  const { sequences, texts: joined } = await read('a.jsonl', rows.join('\n'));
  assert.equal(sequences.map(asText), ['^x', '<abc\n\nde']);
  assert.is(joined, 2);
});

test('where documents are left out at the beginning, a text is one of documents', async () => {
  const text = 'first\n\nsecond \n\n\nthird';
  const { sequences } = await read('a.txt', text, { skip: 1, sequenceLength: 50 });
  assert.equal(sequences.map(asText), ['<second \n\nthird']);
});

test('nothing but space is no document; what is not UTF-8 is named with its line', async () => {
  assert.match(await rejectsWith(() => read('a.txt', ' \n\n'), 'DATA_INVALID'), /holds no document/);
  using folder = temporaryFolder();
  const path = join(folder.path, 'a.txt');
  writeFileSync(path, Buffer.from('one\ntwo\ncaf\u00e9', 'latin1'));
  const message = await rejectsWith(
    () => fileSequences(path, reader, { sequenceLength: 10 }),
    'DATA_INVALID',
  );
  assert.match(message, /a\.txt:3: not UTF-8/);
});

test.run();
