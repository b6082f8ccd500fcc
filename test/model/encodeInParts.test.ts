import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { shippedPath } from '../../model/files/shippedPath.js';
import { encodeInParts } from '../../model/text/encodeInParts.js';
import { loadTokenizer } from '../../model/text/tokenizer.js';
import { temporaryFolder } from '../support.js';

// The ids of a long text, part by part, beside those of the library for the whole text. Seconds.

const prose = readFileSync(shippedPath('demo-calibration.txt'), 'utf8').slice(0, 200_000);
const texts = {
  prose,
  'one word': 'abcdefghij'.repeat(20_000),
  'blank lines and odd spaces': 'A b  c\n \n\n\n = D = \n\te f  \r\n'.repeat(5000),
  'code without spaces': '{"a":[1,2,3.5e-7],"\u00e9\u{1f600}":null},'.repeat(5000),
  'another script': '\u6625\u7720\u4e0d\u89ba\u6681\u3002'.repeat(20_000),
  'half a line': `${prose.slice(0, 40_000).replaceAll('\n', ' ')}\n\n\n\n${prose.slice(0, 40_000)}`,
};

/** As Llama 2's: a space before the text, spaces as letters, no words but what merges make. */
function spacePrefixed() {
  const merges = [
    't h',
    'th e',
    '\u2581 the',
    '\u2581 a',
    'a n',
    'i n',
    '\u2581 in',
    'an d',
    '\u2581 and',
    'a b',
    'ab c',
  ];
  const characters = new Set([...Object.values(texts).join('').replaceAll(' ', '\u2581'), '\u2581']);
  const tokens = ['<unk>', ...characters, ...merges.map(merge => merge.replace(' ', ''))];
  return {
    version: '1.0',
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '\u2581' },
        { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    added_tokens: [],
    model: {
      ...{ type: 'BPE', unk_token: '<unk>', fuse_unk: true, byte_fallback: false },
      ...{ vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges },
    },
  };
}

const folder = temporaryFolder();
test.after(() => folder[Symbol.dispose]());
cpSync(shippedPath('demo-model', 'config.json'), join(folder.path, 'config.json'));
writeFileSync(join(folder.path, 'tokenizer.json'), JSON.stringify(spacePrefixed()));
const tokenizers = { 'byte pairs of words': shippedPath('demo-model'), 'spaces as letters': folder.path };

for (const [kind, folder] of Object.entries(tokenizers)) {
  for (const [name, text] of Object.entries(texts)) {
    test(`${name}, by ${kind}`, async () => {
      using tokenizer = await loadTokenizer(folder);
      const whole = await tokenizer.encode(text, { addSpecialTokens: false });
      const uneven = [text.slice(0, 9), text.slice(9, 60_000), text.slice(60_000)];
      for (const parts of [[text], uneven]) {
        const ids: number[] = [];
        let count = 0;
        for await (const part of encodeInParts(parts, tokenizer)) {
          for (const id of part) ids.push(id);
          count++;
        }
        assert.ok(count > 2, 'the text is divided');
        assert.ok(ids.length === whole.length && ids.every((id, i) => id === whole[i]), 'other ids');
      }
    });
  }
}

test('of a text no more is read than the caller wants', async () => {
  using tokenizer = await loadTokenizer(shippedPath('demo-model'));
  let read = 0;
  const endless = function* () {
    for (;;) {
      read++;
      yield prose.slice(0, 10_000);
    }
  };
  for await (const ids of encodeInParts(endless(), tokenizer)) {
    assert.ok(ids.length > 1000);
    break;
  }
  assert.ok(read <= 3, `${read} parts`);
});

test.run();
