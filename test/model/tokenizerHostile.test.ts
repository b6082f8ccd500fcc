/**
 * Damaged and hostile tokenizer.json files: the library panics on some, which would end this process. About 10 seconds.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { byteTokenizer } from '../../bench/byteTokenizer.js';
import { loadTokenizer } from '../../model/index.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder, writeFiles } from '../support.js';

type Json = Record<string, unknown>;

const base = byteTokenizer() as { model: Json; added_tokens: Json[] };
const withModel = (over: Json) => ({ ...base, model: { ...base.model, ...over } });
const vocab = base.model.vocab as Record<string, number>;
const split = (regex: string) => ({
  ...base,
  pre_tokenizer: { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false },
});
const normalizer = (value: unknown) => ({ ...base, normalizer: value });
const nested = (depth: number) =>
  JSON.stringify(normalizer('HERE')).replace(
    '"HERE"',
    `${'{"type":"Sequence","normalizers":['.repeat(depth)}{"type":"NFC"}${']}'.repeat(depth)}`,
  );

/** Files that cannot be read. The library says what is wrong, and mostly where. */
const unreadable: [name: string, file: object | string, wanted: RegExp][] = [
  ['no JSON', '{', /not valid JSON/],
  ['no object', '[]', /not a JSON object/],
  ['no model', '{}', /Model missing/i],
  ['another model', withModel({ type: 'Other' }), /cannot be read: /],
  ['an id below 0', withModel({ vocab: { ...vocab, zz: -1 } }), /"zz" the id -1/],
  ['half an id', withModel({ vocab: { ...vocab, zz: 1.5 } }), /"zz" the id 1.5/],
  ['an id of 5e9', withModel({ vocab: { ...vocab, zz: 5e9 } }), /"zz" the id 5000000000/],
  ['an id twice', withModel({ vocab: { ...vocab, zz: 7 } }), /the id 7 to the token "zz"/],
  ['ids that are texts', withModel({ vocab: { ...vocab, zz: '300' } }), /"zz" the id "300"/],
  ['a list of ids', withModel({ vocab: [1, 2] }), /cannot be read|the token 1/],
  ['a merge of unknown tokens', withModel({ merges: [['a', 'qq']] }), /`qq` out of vocabulary/],
  ['a merge of one', withModel({ merges: ['a'] }), /cannot be read: /],
  ['a merge of numbers', withModel({ merges: [[1, 2]] }), /cannot be read: /],
  ['merges that are none', withModel({ merges: 'a b' }), /cannot be read: /],
  ['a dropout of 5', withModel({ dropout: 5 }), /[Dd]ropout/],
  [
    'a long prefix',
    withModel({ continuing_subword_prefix: 'longer', merges: [['a', 'b']] }),
    /crashed: range/,
  ],
  ['an open bracket', split('(((('), /parenthesis/],
  ['a deep regex', split(`${'('.repeat(5000)}a${')'.repeat(5000)}`), /parse depth limit/],
  ['200 normalizers deep', nested(200), /recursion limit/],
  ['20,000 normalizers deep', nested(20_000), /500 levels/],
  [
    'a map that is none',
    normalizer({ type: 'Precompiled', precompiled_charsmap: '////AQID' }),
    /crashed: .*charsmap/,
  ],
  ['an added token without an id', { ...base, added_tokens: [{ content: '<x>' }] }, /the token "<x>" the id/],
  ['a unigram of nothing', withModel({ type: 'Unigram', vocab: [], unk_id: 0 }), /EmptyVocabulary/],
];

test('files that cannot be read', async () => {
  for (const [name, file, wanted] of unreadable) {
    using folder = temporaryFolder();
    writeFiles(folder.path, { 'tokenizer.json': file });
    const message = await rejectsWith(() => loadTokenizer(folder.path), 'CONFIG_INVALID');
    assert.match(message, /tokenizer\.json/, name);
    assert.match(message, wanted, name);
    assert.not.match(message, /\n|stack backtrace/, name);
  }
});

const text = `${'a'.repeat(40)}!`;
const template = (single: unknown[], special_tokens: Json = {}) => ({
  ...base,
  post_processor: { type: 'TemplateProcessing', single, pair: [], special_tokens },
});

/** Files that are read, and fail on a text. */
const failing: [name: string, file: object, wanted: RegExp][] = [
  ['a regex that tries everything', split('(a+)+$'), /crashed: .*retry-limit/],
  ['another', split('(a|aa)+$'), /crashed: .*retry-limit/],
  [
    'pieces of nothing',
    { ...base, pre_tokenizer: { type: 'FixedLength', length: 0 } },
    /crashed: chunk size/,
  ],
  [
    'no unknown token',
    { ...withModel({ unk_token: '<unk>', vocab: { b: 0 } }), added_tokens: [] },
    /`<unk>` not found/,
  ],
  [
    'a missing special token',
    template([{ SpecialToken: { id: '<q>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }]),
    /crashed: /,
  ],
  ['a second text', template([{ Sequence: { id: 'B', type_id: 0 } }]), /crashed: index out of bounds/],
];

test('files that make the library fail on a text', async () => {
  for (const [name, file, wanted] of failing) {
    using folder = temporaryFolder();
    writeFiles(folder.path, { 'tokenizer.json': file });
    const message = await rejectsWith(async () => {
      using tokenizer = await loadTokenizer(folder.path);
      await tokenizer.encode(text);
    }, 'CONFIG_INVALID');
    assert.match(message, /tokenizer\.json: the tokenizer /, name);
    assert.match(message, wanted, name);
  }
});

test('after a crash the tokenizer says so again, and others go on', async () => {
  using folder = temporaryFolder();
  writeFiles(folder.path, { 'tokenizer.json': split('(a+)+$') });
  using other = temporaryFolder();
  writeFiles(other.path, { 'tokenizer.json': base });
  using broken = await loadTokenizer(folder.path);
  using sound = await loadTokenizer(other.path);
  for (let i = 0; i < 2; i++) await rejectsWith(() => broken.encode(text), 'CONFIG_INVALID');
  assert.is((await sound.encode(text)).length, 41);
});

/** Strange, but the library reads them. */
const strange: [name: string, file: object][] = [
  ['an id of 1e9', { ...withModel({ vocab: { ...vocab, zz: 1e9 } }), added_tokens: [] }],
  ['an empty regex', split('')],
  ['a regex of a billion', split('((a{1,1000}){1,1000}){1,1000}')],
  ['60 normalizers deep', JSON.parse(nested(60)) as object],
  [
    'padding to a billion',
    {
      ...base,
      padding: {
        strategy: { Fixed: 1e9 },
        direction: 'Right',
        pad_to_multiple_of: null,
        pad_id: 0,
        pad_type_id: 0,
        pad_token: 'a',
      },
    },
  ],
  [
    'truncation that overlaps itself',
    { ...base, truncation: { direction: 'Right', max_length: 2, strategy: 'LongestFirst', stride: 5 } },
  ],
];

test('strange files that are sound', async () => {
  for (const [name, file] of strange) {
    using folder = temporaryFolder();
    writeFiles(folder.path, { 'tokenizer.json': file });
    using tokenizer = await loadTokenizer(folder.path);
    const ids = await tokenizer.encode(text);
    assert.is(ids.length, 41, name);
    assert.is(await tokenizer.decode(ids), text, name);
  }
});

test('a text of 320,000 characters without a space', async () => {
  using folder = temporaryFolder();
  writeFiles(folder.path, { 'tokenizer.json': base });
  using tokenizer = await loadTokenizer(folder.path);
  const long = 'abcdefgh'.repeat(40_000);
  const ids = await tokenizer.encode(long);
  assert.is(ids.length, 320_000);
  assert.is(await tokenizer.decode(ids), long);
});

test.run();
