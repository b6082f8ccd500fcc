import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Document } from '../../model/text/documents.js';
import { encodeDocuments } from '../../model/text/encodeDocuments.js';
import { SequencePacker, tokenSequences } from '../../model/text/tokenSequences.js';
import { rejectsWith } from '../gpu.js';
import { asText, characters, chat, talk } from './characters.js';

/** Sequences as text, BOS as "<". */
async function split(
  documents: Document[],
  options: { sequenceLength: number; tokens?: number },
  bos = false,
): Promise<string[]> {
  const sequences = await tokenSequences(documents, characters(bos), chat, options);
  return sequences.map(asText);
}

test('texts follow one another, an empty line between, and fill sequences to the end', async () => {
  const documents = [{ text: 'abcdefgh' }, { text: 'ijkl' }, { text: 'mnopqrstuvwxyz' }];
  assert.equal(await split(documents, { sequenceLength: 10 }), [
    'abcdefgh\n\n',
    'ijkl\n\nmnop',
    'qrstuvwxyz',
  ]);
});

test('every sequence of text begins with BOS where the tokenizer has one', async () => {
  const documents = [{ text: 'abcdefghi' }, { text: 'jklmnopqrstuvw' }];
  const expected = ['<abcdefgh', '<i\n\njklmn', '<opqrstuv'];
  assert.equal(await split(documents, { sequenceLength: 9 }, true), expected);
});

test('what is left at the end is a sequence of its own, unless it is too short to learn from', async () => {
  assert.equal(await split([{ text: 'abcdefghijklmnopqr' }], { sequenceLength: 10 }), [
    'abcdefghij',
    'klmnopqr',
  ]);
  assert.equal(await split([{ text: 'abcdefghijklmnopq' }], { sequenceLength: 10 }), ['abcdefghij']);
  assert.equal(await split([{ text: 'abc' }], { sequenceLength: 10 }), ['abc'], 'all there is');
});

test('a conversation is a sequence of its own, a longer one is cut into several', async () => {
  const documents = [talk('a', 'b'), talk('0123456789', '0123456789'), talk('abcdefghij')];
  assert.equal(
    await split(documents, { sequenceLength: 10 }, true),
    // The last one's second piece would be "j" alone.
    ['^a|b', '^012345678', '9|01234567', '^abcdefghi'],
  );
});

test('texts and conversations together keep out of each other', async () => {
  const documents = [{ text: 'abcdef' }, talk('x', 'y'), { text: 'ghijklmn' }];
  assert.equal(await split(documents, { sequenceLength: 8 }), ['^x|y', 'abcdef\n\n', 'ghijklmn']);
});

test('the number of tokens is kept exactly, and reading ends there', async () => {
  const text = 'x'.repeat(95);
  for (const tokens of [1, 10, 11, 37, 90]) {
    for (const bos of [false, true]) {
      const sequences = await split([{ text }], { sequenceLength: 10, tokens }, bos);
      assert.is(sequences.join('').length, tokens, `${tokens} tokens`);
      assert.ok(sequences.slice(0, -1).every(({ length }) => length === 10));
    }
  }
  const talks = await split([talk('0123456789'), talk('0123456789')], { sequenceLength: 100, tokens: 15 });
  assert.equal(talks, ['^0123456789', '^012']);
  let asked = 0;
  const endless = (function* () {
    for (;;) {
      asked++;
      yield { text: 'x'.repeat(20) };
    }
  })();
  const sequences = await tokenSequences(endless, characters(false), chat, {
    sequenceLength: 10,
    tokens: 35,
  });
  assert.equal(
    sequences.map(({ length }) => length),
    [10, 10, 10, 5],
  );
  assert.ok(asked <= 3, `${asked} documents read`);
});

test('a packer counts what it will have given out in the end', async () => {
  for (const bos of [false, true]) {
    const packer = await SequencePacker.open(characters(bos), 20);
    let given = 0;
    assert.is(packer.tokens, 0);
    const added = [
      { text: 'abc' },
      { text: 'defghij' },
      talk('x'.repeat(26)),
      { text: 'k'.repeat(37) },
      talk('y'),
    ];
    for await (const document of encodeDocuments(added, characters(bos), chat)) {
      given += packer.add(document).join().split(',').filter(Boolean).length;
      assert.is(packer.tokens, given + packer.rest().flat().length);
    }
  }
});

test('nothing gives nothing', async () => {
  assert.equal(await split([], { sequenceLength: 10 }), []);
  assert.equal(await split([], { sequenceLength: 10 }, true), []);
});

test('a length without room for text is refused instead of never ending', async () => {
  for (const sequenceLength of [0, -5, Number.NaN, 2.5]) {
    await rejectsWith(() => split([{ text: 'abc' }], { sequenceLength }), 'INVALID_ARGUMENT');
  }
  await rejectsWith(() => split([{ text: 'abc' }], { sequenceLength: 1 }, true), 'INVALID_ARGUMENT');
  assert.equal(await split([{ text: 'abc' }], { sequenceLength: 2 }, true), ['<a', '<b', '<c']);
});

test.run();
