import { entryOf, RmError } from '../../engine/index.js';
import type { ModelSource } from '../checkpoint/modelSource.js';
import { jsonOf, requiredJsonOf } from '../checkpoint/modelSource.js';
import { isRecord } from '../files/jsonFile.js';
import { tokenIdKeys } from '../gguf/config.js';
import { knownPreTokenizer, preTokenizers } from '../gguf/preTokenizers.js';
import { tokenTypes } from '../gguf/tokenizerDefinition.js';
import { type GgufValue, ggufArray } from '../gguf/values.js';
import { loadTokenizer, type Tokenizer } from '../text/tokenizer.js';

type Entries = Map<string, GgufValue>;

const text = (value: string): GgufValue => ({ type: 'string', value });
const flag = (value: boolean): GgufValue => ({ type: 'bool', value });
const u32 = (value: number): GgufValue => ({ type: 'u32', value });

const key = (name: string) => `tokenizer.ggml.${name}`;

/** The parts of a tokenizer.json with a BPE model that are used here. */
interface Definition {
  readonly path: string;
  readonly model: Record<string, unknown>;
  readonly vocab: Readonly<Record<string, number>>;
  readonly merges: readonly (readonly [string, string])[];
  readonly added: readonly Record<string, unknown>[];
  readonly normalizer: unknown;
  readonly preTokenizer: unknown;
}

const refused = (path: string, problem: string): RmError =>
  new RmError(
    'CONFIG_INVALID',
    `${path}: ${problem}, which llama.cpp would read differently from a GGUF file`,
    'Write a model folder instead (an output path without .gguf), which keeps the tokenizer unchanged.',
  );

async function readDefinition(source: ModelSource): Promise<Definition> {
  const path = source.nameOf('tokenizer.json');
  const json = await requiredJsonOf(source, 'tokenizer.json');
  const model = isRecord(json) && isRecord(json.model) ? json.model : {};
  const { type, vocab, merges } = model;
  if (!isRecord(json) || type !== 'BPE' || !isRecord(vocab) || !Array.isArray(merges)) {
    throw refused(path, `the tokenizer's model is ${JSON.stringify(type)}, not BPE`);
  }
  const pairs = merges.map(merge => {
    const pair = typeof merge === 'string' ? merge.split(' ') : (merge as unknown[]);
    if (Array.isArray(pair) && pair.length === 2 && pair.every(part => typeof part === 'string')) {
      return pair as [string, string];
    }
    throw refused(path, `the merge ${JSON.stringify(merge)} is not a pair`);
  });
  return {
    path,
    model,
    vocab: vocab as Record<string, number>,
    merges: pairs,
    added: Array.isArray(json.added_tokens) ? json.added_tokens.filter(isRecord) : [],
    normalizer: json.normalizer ?? null,
    preTokenizer: json.pre_tokenizer ?? null,
  };
}

/** Lists every token and its type by id, padded to `rows` as in llama.cpp's converter. */
function tokensOf({ vocab, added, model }: Definition, rows: number, bytesAsTokens: boolean) {
  const tokens = Array.from({ length: rows }, (_, id) => `[PAD${id}]`);
  const types = new Array<number>(rows).fill(tokenTypes.unused);
  const put = (id: number, token: string, type: number) => {
    if (id >= rows) return;
    tokens[id] = token;
    types[id] = type;
  };
  for (const [token, id] of Object.entries(vocab)) {
    const isByte = bytesAsTokens && /^<0x[0-9A-F]{2}>$/.test(token);
    put(id, token, isByte ? tokenTypes.byte : tokenTypes.normal);
  }
  for (const { id, content, special } of added) {
    put(id as number, content as string, special ? tokenTypes.control : tokenTypes.userDefined);
  }
  if (bytesAsTokens && typeof model.unk_token === 'string') {
    put(entryOf(vocab, model.unk_token) ?? rows, model.unk_token, tokenTypes.unknown);
  }
  return { tokens, types };
}

function byteLevel(definition: Definition, entries: Entries): void {
  const { path, normalizer, preTokenizer, merges, model } = definition;
  if (normalizer !== null && !(isRecord(normalizer) && normalizer.type === 'NFC')) {
    throw refused(path, `the normalizer is ${JSON.stringify(normalizer)}`);
  }
  const match = knownPreTokenizer(preTokenizer, model.ignore_merges === true);
  if (!match) {
    const names = preTokenizers.map(({ names: [name] }) => name).join(', ');
    throw refused(path, `its pre-tokenizer is none of the known ones (${names})`);
  }
  entries.set(key('model'), text('gpt2'));
  entries.set(key('pre'), text(match.names[0]!));
  entries.set(
    key('merges'),
    ggufArray(
      'string',
      merges.map(pair => pair.join(' ')),
    ),
  );
}

const PREFIX = '▁';

/** Whether the tokenizer prepends SentencePiece's space to a text. */
function prefixesSpace({ path, normalizer, preTokenizer }: Definition): boolean {
  const parts = (value: unknown): Record<string, unknown>[] =>
    !isRecord(value)
      ? []
      : value.type === 'Sequence' && Array.isArray(value.normalizers)
        ? value.normalizers.flatMap(parts)
        : [value];
  const normalizers = parts(normalizer);
  const other = normalizers.find(({ type }) => type !== 'Prepend' && type !== 'Replace');
  if (other) throw refused(path, `the normalizer is ${JSON.stringify(other)}`);
  if (isRecord(preTokenizer)) {
    if (preTokenizer.type === 'Metaspace') return preTokenizer.prepend_scheme !== 'never';
    // It splits at spaces, which the normalizer has already replaced, so it does nothing.
    const idle = preTokenizer.type === 'Split' && JSON.stringify(preTokenizer.pattern) === '{"String":" "}';
    if (!idle) throw refused(path, `the pre-tokenizer is ${JSON.stringify(preTokenizer.type)}`);
  }
  return normalizers.some(({ type, prepend }) => type === 'Prepend' && prepend === PREFIX);
}

/** Scores that order pieces by the merges that make them; pieces made by no merge come last. */
function sentencePiece(definition: Definition, tokens: readonly string[], entries: Entries): void {
  const ranks = new Map<string, number>();
  for (const [rank, [left, right]] of definition.merges.entries()) {
    const piece = left + right;
    if (!ranks.has(piece)) ranks.set(piece, rank);
  }
  const last = definition.merges.length;
  entries.set(key('model'), text('llama'));
  entries.set(key('pre'), text('default'));
  entries.set(
    key('scores'),
    ggufArray(
      'f32',
      tokens.map(token => -(ranks.get(token) ?? last)),
    ),
  );
  entries.set(key('add_space_prefix'), flag(prefixesSpace(definition)));
}

/** Which special tokens the tokenizer adds around a text. */
async function around(tokenizer: Tokenizer): Promise<{ bos: boolean; eos: boolean }> {
  const inner = await tokenizer.encode('a', { addSpecialTokens: false });
  const whole = await tokenizer.encode('a');
  const before = whole.length > inner.length && whole[0] === tokenizer.bosId;
  const end = whole.at(-1);
  return {
    bos: before,
    eos: whole.length - inner.length > Number(before) && tokenizer.eosIds.includes(end!),
  };
}

/** Reads the special tokens' ids from generation_config.json, config.json or tokenizer_config.json. */
async function specialIds(
  source: ModelSource,
  { vocab, added }: Definition,
): Promise<Record<string, number[]>> {
  const files = await Promise.all(
    ['generation_config.json', 'config.json', 'tokenizer_config.json'].map(name => jsonOf(source, name)),
  );
  const [generation, config, settings] = files.map(file => (isRecord(file) ? file : {}));
  const contents = new Map(added.map(({ content, id }) => [content, id as number]));
  const ids: Record<string, number[]> = {};
  for (const name of Object.keys(tokenIdKeys)) {
    const stated = [generation?.[name] ?? config?.[name] ?? []].flat().filter(Number.isInteger) as number[];
    const word = settings?.[name.replace('_id', '')];
    const content = isRecord(word) ? word.content : word;
    const named =
      typeof content === 'string' ? (contents.get(content) ?? entryOf(vocab, content)) : undefined;
    if (stated.length > 0) ids[name] = stated;
    else if (named !== undefined) ids[name] = [named];
  }
  return ids;
}

/**
 * Expresses a model's tokenizer as GGUF metadata for llama.cpp: byte-level BPE with a pre-tokenizer that llama.cpp knows by
 * name, or SentencePiece's BPE.
 *
 * @param rows rows of the embedding; the vocabulary is padded to this length.
 * @throws RmError CONFIG_INVALID for a tokenizer that llama.cpp would read differently.
 */
export async function tokenizerMetadata(source: ModelSource, rows: number): Promise<Entries> {
  const definition = await readDefinition(source);
  const entries: Entries = new Map();
  const spm = definition.model.byte_fallback === true;
  const { tokens, types } = tokensOf(definition, rows, spm);
  if (spm) sentencePiece(definition, tokens, entries);
  else byteLevel(definition, entries);
  entries.set(key('tokens'), ggufArray('string', tokens));
  entries.set(key('token_type'), ggufArray('i32', types));

  const ids = await specialIds(source, definition);
  for (const [name, [id]] of Object.entries(ids)) entries.set(tokenIdKeys[name]!, u32(id!));
  const [, ...otherEnds] = ids.eos_token_id ?? [];
  if (otherEnds.length > 0) entries.set(key('eot_token_id'), u32(otherEnds.at(-1)!));
  if (otherEnds.length > 1) entries.set(key('eom_token_id'), u32(otherEnds[0]!));
  using tokenizer = await loadTokenizer(source.path);
  const { bos, eos } = await around(tokenizer);
  entries.set(key('add_bos_token'), flag(bos));
  entries.set(key('add_eos_token'), flag(eos));

  const settings = await jsonOf(source, 'tokenizer_config.json');
  const stated =
    isRecord(settings) && typeof settings.chat_template === 'string' ? settings.chat_template : undefined;
  const template = (await source.text('chat_template.jinja')) ?? stated;
  if (template !== undefined) entries.set('tokenizer.chat_template', text(template));
  return entries;
}
