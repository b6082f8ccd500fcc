import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeDocument, loadChatTemplate } from '../../model/text/chat.js';
import { loadTokenizer } from '../../model/text/tokenizer.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

/** The printable stand-ins of byte-level BPE, in byte order: ids 0 to 255 are the bytes. */
function byteTokens(): string[] {
  const printable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++));
}

/** A byte-level BPE with a few merges, so that splitting rules show in the ids. */
function definition() {
  const tokens = byteTokens();
  const of = (text: string) => [...Buffer.from(text)].map(b => tokens[b]!).join('');
  const merges = [
    [of(' '), tokens[0xc2]!],
    [of('a'), of('b')],
    ['ab', 'ab'],
    [of(' '), tokens[0xef]!],
  ];
  const vocabulary = [...tokens, ...merges.map(pair => pair.join(''))];
  const bos = { id: vocabulary.length, content: '<s>', special: true, normalized: false };
  const flags = { single_word: false, lstrip: false, rstrip: false };
  return {
    added_tokens: [
      { ...bos, ...flags },
      { ...bos, ...flags, id: bos.id + 1, content: '</s>' },
    ],
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Digits', individual_digits: true },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: { '<s>': { id: '<s>', ids: [bos.id], tokens: ['<s>'] } },
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])), merges },
  };
}

function write(folder: string, files: Record<string, unknown>): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, value] of Object.entries(files)) {
    writeFileSync(join(folder, name), typeof value === 'string' ? value : JSON.stringify(value));
  }
}

const settings = { bos_token: { content: '<s>' }, eos_token: '</s>', clean_up_tokenization_spaces: true };
const [bos, eos] = [260, 261];

test('encodes with and without special tokens and decodes back', async () => {
  using folder = temporaryFolder();
  write(folder.path, { 'tokenizer.json': definition(), 'tokenizer_config.json': settings });
  const tokenizer = await loadTokenizer(folder.path);
  assert.is(tokenizer.vocabSize, 262);
  assert.equal(await tokenizer.encode('abab'), [bos, 258]);
  assert.equal(await tokenizer.encode('abab', { addSpecialTokens: false }), [258]);
  assert.equal(await tokenizer.encode('', { addSpecialTokens: false }), []);
  assert.equal(await tokenizer.encode('ab</s>', { addSpecialTokens: false }), [257, eos]);
  assert.is(await tokenizer.decode([bos, 258, eos]), '<s>abab</s>');
  assert.is(await tokenizer.decode([bos, 258, eos], { skipSpecialTokens: true }), 'abab');
  assert.is(await tokenizer.decode([]), '');
  assert.is(await tokenizer.decode([258, 5000]), 'abab', 'an id of a padded vocabulary');
  const text = "Well , this is n't it ?";
  assert.is(
    await tokenizer.decode(await tokenizer.encode(text, { addSpecialTokens: false })),
    text,
    'no clean-up of spaces',
  );
});

test('numbers and spaces are split as in Rust', async () => {
  using folder = temporaryFolder();
  write(folder.path, { 'tokenizer.json': definition() });
  const tokenizer = await loadTokenizer(folder.path);
  const ids = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
  // Every numeral stands alone: the space before it is not joined to its first byte.
  assert.equal(await ids(' \u00bd'), [32, 0xc2, 0xbd]);
  assert.equal(await ids(' \u00e9'), [32, 0xc3, 0xa9]);
  assert.equal(await ids(' \u00a1'), [256, 0xa1]);
  // U+0085 is white space to Rust: the spaces before it are a run that ends with it, not the lead of a word.
  assert.equal(await ids(' \u0085'), [256, 0x85]);
  assert.equal(await ids('  \u0085a'), [32, 32, 0xc2, 0x85, 97]);
  // U+FEFF is none: the space before belongs to it as to a letter.
  assert.equal(await ids(' \ufeff'), [259, 0xbb, 0xbf]);
});

test('a text stream holds back cut characters', async () => {
  using folder = temporaryFolder();
  write(folder.path, { 'tokenizer.json': definition() });
  const tokenizer = await loadTokenizer(folder.path);
  const stream = tokenizer.createTextStream({ skipSpecialTokens: true });
  const pieces: string[] = [];
  for (const id of [...Buffer.from('a\u{1f642}'), bos, 0xf0]) pieces.push(await stream.push(id));
  assert.equal(pieces, ['a', '', '', '', '\u{1f642}', '', '']);
  assert.is(await stream.end(), '\ufffd');
  assert.is(await stream.end(), '');
});

test('end and begin ids: generation_config, else config, else tokenizer_config', async () => {
  using folder = temporaryFolder();
  const load = (name: string, files: Record<string, unknown>) => {
    const path = join(folder.path, name);
    write(path, { 'tokenizer.json': definition(), 'tokenizer_config.json': settings, ...files });
    return loadTokenizer(path);
  };
  const plain = await load('plain', {});
  assert.equal([plain.bosId, plain.eosIds], [bos, [eos]]);
  assert.equal(plain.specialTokens, { bos_token: '<s>', eos_token: '</s>' });
  const config = { eos_token_id: 7, bos_token_id: null };
  assert.equal((await load('config', { 'config.json': config })).eosIds, [7]);
  const generation = { eos_token_id: [8, 9], bos_token_id: 3 };
  const both = await load('both', { 'config.json': config, 'generation_config.json': generation });
  assert.equal([both.bosId, both.eosIds], [3, [8, 9]]);
});

test('files that are missing or broken', async () => {
  using folder = temporaryFolder();
  assert.match(await rejectsWith(() => loadTokenizer(folder.path), 'CHECKPOINT_MISSING'), /tokenizer\.json/);
  for (const broken of ['{', '[]', '{}', '{"model":{"type":"Other"}}']) {
    write(folder.path, { 'tokenizer.json': broken });
    assert.match(await rejectsWith(() => loadTokenizer(folder.path), 'CONFIG_INVALID'), /tokenizer\.json/);
  }
  write(folder.path, { 'tokenizer.json': definition(), 'tokenizer_config.json': '[]' });
  assert.match(await rejectsWith(() => loadTokenizer(folder.path), 'CONFIG_INVALID'), /tokenizer_config/);
});

test('chat templates: the file, the string, the list, none', async () => {
  using folder = temporaryFolder();
  const messages = [{ role: 'user', content: 'hi' }];
  const load = async (name: string, chatTemplate: unknown, file?: string) => {
    const path = join(folder.path, name);
    const tokenizerConfig = { ...settings, chat_template: chatTemplate };
    write(path, { 'tokenizer_config.json': tokenizerConfig, ...(file && { 'chat_template.jinja': file }) });
    return loadChatTemplate(path, { specialTokens: { bos_token: '<s>' } });
  };
  const source = '{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}';
  const prompted = `${source}{% if add_generation_prompt %}>{% endif %}`;
  assert.is(await (await load('string', source)).renderChat(messages), '<s>hi');
  const fromFile = await load('file', 'not this', prompted);
  assert.is(await fromFile.renderChat(messages), '<s>hi');
  assert.is(await fromFile.renderChat(messages, { addGenerationPrompt: true }), '<s>hi>');
  const list = [
    { name: 'tool_use', template: 'x' },
    { name: 'default', template: source },
  ];
  assert.is(await (await load('list', list)).renderChat(messages), '<s>hi');
  const unclear = await load('unclear', [list[0], { name: 'rag', template: 'y' }]);
  assert.match(await rejectsWith(() => unclear.renderChat(messages), 'CONFIG_INVALID'), /only tool_use, rag/);
  assert.match(await rejectsWith(() => load('broken', '{% if %}'), 'CONFIG_INVALID'), /cannot be parsed/);
  const refusing = await load('refusing', "{{ raise_exception('roles must alternate') }}");
  assert.match(
    await rejectsWith(() => refusing.renderChat(messages), 'DATA_INVALID'),
    /roles must alternate/,
  );
  const none = await load('none', null);
  assert.not.ok(none.available);
  assert.match(await rejectsWith(() => none.renderChat(messages), 'CONFIG_INVALID'), /no chat template/);
});

test('a document gets its special tokens once', async () => {
  using folder = temporaryFolder();
  const template = '{{ bos_token }}{{ messages[0].content }}';
  write(folder.path, {
    'tokenizer.json': definition(),
    'tokenizer_config.json': { ...settings, chat_template: template },
  });
  const tokenizer = await loadTokenizer(folder.path);
  const chat = await loadChatTemplate(folder.path, tokenizer);
  assert.equal(await encodeDocument({ text: 'ab' }, tokenizer, chat), [bos, 257]);
  assert.equal(await encodeDocument({ messages: [{ role: 'user', content: 'ab' }] }, tokenizer, chat), [
    bos,
    257,
  ]);
});

test.run();
