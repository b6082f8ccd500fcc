import { RmError } from '../../engine/index.js';
import { isRecord } from '../files/jsonFile.js';
import type { TokenizerFiles } from './tokenizerFiles.js';

/** A token that is found in a text before the text is split into words, in the words of tokenizer.json. */
export interface SpecialToken {
  readonly content: string;
  readonly special: boolean;
  readonly single_word: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly normalized: boolean;
}

/** An id that a file gives to a token. */
export interface StatedId {
  readonly content: string;
  readonly id: number;
  /** The file's name, for messages. */
  readonly file: string;
  /** Whether it is of the model's part of tokenizer.json, which the library takes as it is. */
  readonly ofModel: boolean;
}

/** What a tokenizer's files say about its special tokens. */
export interface SpecialTokens {
  /** Those to add to tokenizer.json, in the order in which transformers adds them. */
  readonly added: readonly SpecialToken[];
  /** bos_token, eos_token ... as text. */
  readonly named: Readonly<Record<string, string>>;
  readonly stated: readonly StatedId[];
}

const invalid = (path: string, problem: string): RmError =>
  new RmError('CONFIG_INVALID', `${path}: ${problem}`, 'Take all tokenizer files from one model.');

/** A token as text or as an object with its content. */
function tokenOf(value: unknown, special: boolean): SpecialToken | undefined {
  const given = typeof value === 'string' ? { content: value } : value;
  if (!isRecord(given) || typeof given.content !== 'string') return undefined;
  const flag = (name: string, otherwise: boolean) =>
    typeof given[name] === 'boolean' ? given[name] : otherwise;
  return {
    content: given.content,
    special: special || flag('special', false),
    ...{
      single_word: flag('single_word', false),
      lstrip: flag('lstrip', false),
      rstrip: flag('rstrip', false),
    },
    normalized: flag('normalized', !(special || flag('special', false))),
  };
}

/** The largest id that the library can hold. */
const LARGEST_ID = 2 ** 32 - 1;

/** All ids that the files state. @throws RmError CONFIG_INVALID for an id that is none. */
function statedIds({ nameOf, definition, settings, addedTokens }: TokenizerFiles): StatedId[] {
  const all: StatedId[] = [];
  const state = (file: string, content: unknown, id: unknown, ofModel = false) => {
    if (
      typeof content !== 'string' ||
      !Number.isInteger(id) ||
      (id as number) < 0 ||
      (id as number) > LARGEST_ID
    ) {
      throw invalid(file, `gives the token ${JSON.stringify(content)} the id ${JSON.stringify(id)}`);
    }
    all.push({ content, id: id as number, file, ofModel });
  };
  const entries = (value: unknown) => (isRecord(value) ? Object.entries(value) : []);
  const file = nameOf('tokenizer.json');
  const model = isRecord(definition.model) ? definition.model : {};
  for (const [content, id] of entries(model.vocab)) state(file, content, id, true);
  if (Array.isArray(model.vocab)) {
    for (const [id, piece] of model.vocab.entries())
      state(file, Array.isArray(piece) ? piece[0] : piece, id, true);
  }
  const own = Array.isArray(definition.added_tokens) ? definition.added_tokens : [];
  for (const token of own) if (isRecord(token)) state(file, token.content, token.id);
  for (const [id, token] of entries(settings.added_tokens_decoder)) {
    state(nameOf('tokenizer_config.json'), isRecord(token) ? token.content : token, Number(id));
  }
  for (const [content, id] of entries(addedTokens)) state(nameOf('added_tokens.json'), content, id);
  return all;
}

/** @throws RmError CONFIG_INVALID if two statements contradict each other. */
function checkConsistent(stated: readonly StatedId[]): void {
  const byId = new Map<number, StatedId>();
  const byContent = new Map<string, StatedId>();
  for (const one of stated) {
    const sameId = byId.get(one.id);
    const sameContent = byContent.get(one.content);
    if (sameId && sameId.content !== one.content) {
      const [a, b] = [JSON.stringify(sameId.content), JSON.stringify(one.content)];
      throw invalid(
        one.file,
        `gives the id ${one.id} to the token ${b}, but ${sameId.file} gives it to ${a}`,
      );
    }
    if (sameContent && sameContent.id !== one.id) {
      const token = JSON.stringify(one.content);
      throw invalid(
        one.file,
        `gives the token ${token} the id ${one.id}, but ${sameContent.file} gives it ${sameContent.id}`,
      );
    }
    byId.set(one.id, one);
    byContent.set(one.content, one);
  }
}

/** The names that every tokenizer may have. */
const standardNames = ['bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask'].map(name => `${name}_token`);

/**
 * Special tokens by name, and those without a name. special_tokens_map.json is older than added_tokens_decoder and read only
 * where that is missing; it then counts more than tokenizer_config.json.
 */
function namedAndExtra({ settings, tokenMap }: TokenizerFiles) {
  const all: Readonly<Record<string, unknown>> =
    settings.added_tokens_decoder === undefined ? { ...settings, ...tokenMap } : settings;
  const more = all.extra_special_tokens ?? all.additional_special_tokens;
  const named: Record<string, SpecialToken> = {};
  const put = ([name, value]: [string, unknown]) => {
    const token = tokenOf(value, true);
    if (token) named[name] = token;
  };
  for (const name of standardNames) put([name, all[name]]);
  for (const entry of Object.entries(all)) {
    if (entry[0].endsWith('_token') && !standardNames.includes(entry[0])) put(entry);
  }
  if (isRecord(more)) for (const entry of Object.entries(more)) put(entry);
  const extra = (Array.isArray(more) ? more : []).flatMap(value => tokenOf(value, true) ?? []);
  return { named, extra };
}

/**
 * Reads a tokenizer's special tokens as transformers 5 does: tokenizer.json's own, then those of added_tokens_decoder
 * in tokenizer_config.json or, without it, of added_tokens.json, by id; then the named ones and the others that are not yet
 * known. The library gives each an id when it is added; `stated` holds what it must be.
 *
 * @throws RmError CONFIG_INVALID if the files give one id to two tokens or one token two ids.
 */
export function readSpecialTokens(files: TokenizerFiles): SpecialTokens {
  const { definition, settings, addedTokens } = files;
  const stated = statedIds(files);
  checkConsistent(stated);
  const { named, extra } = namedAndExtra(files);
  const own = Array.isArray(definition.added_tokens) ? definition.added_tokens.filter(isRecord) : [];
  const ownContents = new Set(own.map(({ content }) => content));
  const names = new Set([...Object.values(named), ...extra].map(({ content }) => content));
  const listed = isRecord(settings.added_tokens_decoder)
    ? Object.entries(settings.added_tokens_decoder).map(
        ([id, token]) => [Number(id), tokenOf(token, false)] as const,
      )
    : Object.entries(addedTokens)
        .filter(([content]) => !ownContents.has(content))
        .map(([content, id]) => [id as number, tokenOf(content, names.has(content))] as const);
  const inOrder = listed.sort(([a], [b]) => a - b).flatMap(([, token]) => token ?? []);
  const known = new Set([...ownContents, ...inOrder.map(({ content }) => content)]);
  const added: SpecialToken[] = inOrder.map(token => ({
    ...token,
    special: token.special || names.has(token.content),
  }));
  for (const token of [...Object.values(named), ...extra]) {
    if (!known.has(token.content)) added.push(token);
    known.add(token.content);
  }
  return {
    added,
    named: Object.fromEntries(Object.entries(named).map(([name, { content }]) => [name, content])),
    stated,
  };
}
