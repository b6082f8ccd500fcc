import { join } from 'node:path';
import { byteTokenizer } from '../../../bench/byteTokenizer.js';
import { loadTokenizer } from '../../../model/index.js';
import { asFile, bytesOf, dataFile } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import type { Target } from '../target.js';
import { tokenizers } from '../tokenizers.js';

const words = [
  ...[
    'BPE',
    'Unigram',
    'WordPiece',
    'WordLevel',
    'Sequence',
    'ByteLevel',
    'Metaspace',
    'Split',
    'Digits',
    'Punctuation',
  ],
  ...[
    'Whitespace',
    'WhitespaceSplit',
    'BertPreTokenizer',
    'NFC',
    'NFKC',
    'Lowercase',
    'Replace',
    'Prepend',
    'Precompiled',
  ],
  ...[
    'TemplateProcessing',
    'ByteFallback',
    'Fuse',
    'Strip',
    'Regex',
    'String',
    'Isolated',
    'Removed',
    'MergedWithNext',
  ],
  ...[
    '(a+)+$',
    '(?=(a|b)*)',
    '\\p{L}+',
    '(?i:x)',
    '[',
    'unk_token',
    'merges',
    'vocab',
    'behavior',
    'pattern',
    'ids',
  ],
];

/** Texts that a tokenizer has to turn into ids whatever its file says. */
const texts = [
  '',
  'a few words, 12',
  'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!',
  ' \n\t é漢字😀 <end><s>',
  '\ud800 \0',
];

/** tokenizer.json: texts are encoded and decoded. */
export const target: Target = {
  corpus: async () => [
    ...tokenizers.map(bytesOf),
    bytesOf(byteTokenizer()),
    dataFile('healing', 'pruned', 'tokenizer.json'),
  ],
  mutate: jsonMutator(words),
  open: async folder =>
    asFile(join(folder, 'tokenizer.json'), async () => {
      using tokenizer = await loadTokenizer(folder);
      for (const text of texts) {
        for (const addSpecialTokens of [true, false]) {
          const ids = await tokenizer.encode(text, { addSpecialTokens });
          await tokenizer.decode(ids, { skipSpecialTokens: true });
        }
      }
      const stream = tokenizer.createTextStream();
      for (const id of [0, 1, 2, 1e9]) await stream.push(id);
      await stream.end();
    }),
};
