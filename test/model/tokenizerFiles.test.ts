/** What tokenizer files may say of each other and of the model, and what opens a packed sequence. About 5 seconds. */
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { byteTokenizer } from '../../bench/byteTokenizer.js';
import { loadTokenizer, sameTokenizer, tokenSequences } from '../../model/index.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder, writeFiles } from '../support.js';
import { chat } from './characters.js';

type Json = Record<string, unknown>;

const special = (id: number, content: string) => ({
  ...{ id, content, special: true, normalized: false },
  ...{ single_word: false, lstrip: false, rstrip: false },
});

/** Bytes are ids 0 to 255, <s> is 256 and </s> 257. */
const definition = (over: Json = {}): Json => ({
  ...byteTokenizer(),
  added_tokens: [special(256, '<s>'), special(257, '</s>')],
  ...over,
});

const named = { '<s>': 256, '</s>': 257 } as const;

/** "<s> $A </s>" as a post-processor. */
function template(single: string) {
  const words = single.split(' ');
  const parts = words.map(word =>
    word === '$A' ? { Sequence: { id: 'A', type_id: 0 } } : { SpecialToken: { id: word, type_id: 0 } },
  );
  const tokens = Object.entries(named).map(([content, id]) => [
    content,
    { id: content, ids: [id], tokens: [content] },
  ]);
  return { type: 'TemplateProcessing', single: parts, pair: [], special_tokens: Object.fromEntries(tokens) };
}

const enclosing = { sep: ['</s>', 257], cls: ['<s>', 256] };
const processors: [name: string, processor: unknown, opening: number[]][] = [
  ['none', null, []],
  ['BOS', template('<s> $A'), [256]],
  ['EOS', template('$A </s>'), []],
  ['both', template('<s> $A </s>'), [256]],
  ['two before', template('<s> </s> $A'), [256, 257]],
  ['BERT', { type: 'BertProcessing', ...enclosing }, [256]],
  [
    'RoBERTa',
    { type: 'RobertaProcessing', ...enclosing, trim_offsets: true, add_prefix_space: false },
    [256],
  ],
  [
    'sequence',
    {
      type: 'Sequence',
      processors: [
        { type: 'ByteLevel', add_prefix_space: true, trim_offsets: false, use_regex: true },
        template('<s> $A </s>'),
      ],
    },
    [256],
  ],
];

test('a packed sequence opens with what the post-processor puts before a text', async () => {
  const text = 'Some words of a text that fill more than two sequences.';
  const bytes = [...Buffer.from(text)];
  for (const [name, processor, opening] of processors) {
    using folder = temporaryFolder();
    writeFiles(folder.path, { 'tokenizer.json': definition({ post_processor: processor }) });
    using tokenizer = await loadTokenizer(folder.path);
    assert.equal(tokenizer.opening, opening, name);
    const sequences = await tokenSequences([{ text }], tokenizer, chat, { sequenceLength: 20 });
    const room = 20 - opening.length;
    const expected = [0, 1, 2].map(i => [...opening, ...bytes.slice(i * room, (i + 1) * room)]);
    assert.equal(sequences.slice(0, 2), expected.slice(0, 2), name);
  }
});

const decoder = (...tokens: [number, string][]) => ({
  added_tokens_decoder: Object.fromEntries(tokens.map(([id, content]) => [id, special(id, content)])),
});

const contradictions: [files: Record<string, Json>, wanted: RegExp][] = [
  [
    { 'tokenizer_config.json': decoder([256, '<x>']) },
    /tokenizer_config\.json: .*256.*"<x>".*tokenizer\.json.*"<s>"/,
  ],
  [
    { 'tokenizer_config.json': decoder([300, '</s>']) },
    /tokenizer_config\.json: .*"<\/s>".*300.*tokenizer\.json.*257/,
  ],
  [{ 'tokenizer_config.json': decoder([259, '<x>']) }, /tokenizer_config\.json: .*"<x>".*259.*258/],
  [{ 'added_tokens.json': { '<x>': 97 } }, /added_tokens\.json: .*97.*"<x>".*tokenizer\.json.*"a"/],
  [{ 'added_tokens.json': { '<s>': 258 } }, /added_tokens\.json: .*"<s>".*258.*tokenizer\.json.*256/],
  [
    { 'added_tokens.json': { '<x>': 259 }, 'tokenizer_config.json': decoder([258, '<x>']) },
    /added_tokens\.json: .*"<x>".*259.*tokenizer_config\.json.*258/,
  ],
  [{ 'added_tokens.json': { '<x>': 1e9 } }, /added_tokens\.json: .*"<x>".*1000000000.*258/],
  [{ 'added_tokens.json': { '<x>': 1.5 } }, /added_tokens\.json: .*"<x>".*1\.5/],
  [{ 'added_tokens.json': { '<x>': '258' } }, /added_tokens\.json: .*"<x>".*"258"/],
  [
    { 'tokenizer.json': definition({ added_tokens: [special(1e9, '<x>')] }) },
    /tokenizer\.json: .*"<x>".*1000000000.*256/,
  ],
  [
    { 'tokenizer.json': definition({ added_tokens: [special(256, '<x>'), special(256, '<y>')] }) },
    /tokenizer\.json: .*256.*"<y>".*"<x>"/,
  ],
];

test('files that contradict each other are refused by name', async () => {
  for (const [files, wanted] of contradictions) {
    using folder = temporaryFolder();
    writeFiles(folder.path, { 'tokenizer.json': definition(), ...files });
    const message = await rejectsWith(() => loadTokenizer(folder.path), 'CONFIG_INVALID');
    assert.match(message, wanted);
    assert.match(message, folder.path);
  }
});

test('files that agree are not', async () => {
  using folder = temporaryFolder();
  writeFiles(folder.path, {
    'tokenizer.json': definition(),
    'tokenizer_config.json': { ...decoder([256, '<s>'], [258, '<x>']), eos_token: '</s>' },
    'added_tokens.json': { '<x>': 258, '</s>': 257 },
    'special_tokens_map.json': { bos_token: '<s>' },
  });
  using tokenizer = await loadTokenizer(folder.path);
  assert.equal(await tokenizer.encode('a<x></s>'), [97, 258, 257]);
  assert.is(tokenizer.vocabSize, 259);
});

test('two tokenizers are the same only with the same added tokens, whatever file names them', async () => {
  using folder = temporaryFolder();
  const paths = ['plain', 'added', 'config'].map(name => join(folder.path, name)) as [string, string, string];
  for (const path of paths) writeFiles(path, { 'tokenizer.json': definition() });
  writeFiles(paths[1], { 'added_tokens.json': { '<x>': 258 } });
  writeFiles(paths[2], { 'tokenizer_config.json': { chat_template: 'x', eos_token: '</s>' } });
  assert.not.ok(await sameTokenizer(paths[0], paths[1]));
  assert.ok(await sameTokenizer(paths[0], paths[2]));
});

test("tokens beyond the model's embedding", async () => {
  using folder = temporaryFolder();
  const config = (vocab_size: unknown) => ({ 'tokenizer.json': definition(), 'config.json': { vocab_size } });
  writeFiles(folder.path, config(200));
  const message = await rejectsWith(() => loadTokenizer(folder.path), 'CONFIG_INVALID');
  assert.match(message, /tokenizer\.json: .* the id \d+, but the model's embedding has 200 rows/);
  // Added tokens without rows do no harm until a text has one: some models have them.
  writeFiles(folder.path, config(257));
  using tokenizer = await loadTokenizer(folder.path);
  assert.equal(await tokenizer.encode('a<s>'), [97, 256]);
  const beyond = await rejectsWith(() => tokenizer.encode('a</s>'), 'CONFIG_INVALID');
  assert.match(beyond, /tokenizer\.json: .*"<\/s>" with the id 257, but the model's embedding has 257 rows/);
  for (const nonsense of ['x', -1, 1.5, null]) {
    writeFiles(folder.path, config(nonsense));
    using same = await loadTokenizer(folder.path);
    assert.equal(await same.encode('</s>'), [257]);
  }
});

test('what is no token id is not decoded', async () => {
  using folder = temporaryFolder();
  writeFiles(folder.path, { 'tokenizer.json': definition() });
  using tokenizer = await loadTokenizer(folder.path);
  assert.is(await tokenizer.decode([97, 4000, 98, 1e9]), 'ab', 'ids of a padded vocabulary are left out');
  for (const id of [-1, 1.5, Number.NaN, 2 ** 32]) {
    await rejectsWith(() => tokenizer.decode([97, id]), 'INVALID_ARGUMENT');
    await rejectsWith(() => tokenizer.createTextStream().push(id), 'INVALID_ARGUMENT');
  }
});

test.run();
