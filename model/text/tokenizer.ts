import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { ensure, RmError } from '../../engine/index.js';
import { requireText } from '../architecture/modality.js';
import { jsonOf, requiredJsonOf } from '../checkpoint/modelSource.js';
import { isRecord } from '../files/jsonFile.js';
import { openModelSource } from '../source/openModelSource.js';
import { readArchitecture } from '../source/readArchitecture.js';

/** Decodes token ids that arrive one at a time, never cutting a character in two. */
export interface TextStream {
  /** Adds a token and returns the text that is now certain; may be empty. */
  push(id: number): string;
  /** Returns the text still held back at the end. */
  end(): string;
}

/** A model's tokenizer. */
export interface Tokenizer {
  /** One more than the largest id in tokenizer.json; a model's vocabulary may be padded beyond it. */
  readonly vocabSize: number;
  readonly bosId: number | null;
  /** Ids that end generation, from generation_config.json, else config.json, else tokenizer_config.json. */
  readonly eosIds: readonly number[];
  /** bos_token, eos_token, pad_token ... as text, for chat templates. */
  readonly specialTokens: Readonly<Record<string, string>>;
  /** Encodes a text. `addSpecialTokens` (default true) adds the special tokens that tokenizer.json asks for, such as BOS. */
  encode(text: string, options?: { addSpecialTokens?: boolean }): number[];
  /** Decodes token ids; skips ids that tokenizer.json does not have. */
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
  /** Decodes while generating; the pieces together equal decode() of all ids. */
  createTextStream(options?: { skipSpecialTokens?: boolean }): TextStream;
}

/** The part of the library used here. Its own declarations import without file endings, which NodeNext cannot resolve. */
interface HuggingFaceApi {
  readonly pre_tokenizer: PreTokenizer | null;
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[]; tokens: string[] };
  decode(
    ids: number[],
    options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean },
  ): string;
  id_to_token(id: number): string | undefined;
  token_to_id(token: string): number | undefined;
  get_vocab(): Map<string, number>;
}

interface PreTokenizer {
  readonly config?: { readonly type?: string; readonly individual_digits?: boolean };
  /** The parts of a Sequence. */
  readonly tokenizers?: readonly (PreTokenizer | null)[];
  pattern?: RegExp | null;
}

/** Gives `\s` and `\S` the meaning of Rust and Oniguruma: White_Space includes U+0085 and excludes U+FEFF. */
const unicodeSpaces = (pattern: RegExp): RegExp =>
  new RegExp(
    pattern.source.replace(/\\(.)/gsu, (escaped, letter: string) =>
      letter === 's' ? '\\p{White_Space}' : letter === 'S' ? '\\P{White_Space}' : escaped,
    ),
    pattern.flags,
  );

/**
 * Fixes two differences between @huggingface/tokenizers 0.2.0 and the Rust tokenizers that models are trained with: its
 * Digits knows only 0-9, while Rust matches every Unicode number (½, Ⅷ, superscripts), and JavaScript's \s differs from
 * Unicode's White_Space.
 */
function fixPreTokenizer(preTokenizer: PreTokenizer | null): void {
  preTokenizer?.tokenizers?.forEach(fixPreTokenizer);
  if (preTokenizer?.config?.type === 'Digits') {
    preTokenizer.pattern = preTokenizer.config.individual_digits ? /\P{N}+|\p{N}/gu : /\P{N}+|\p{N}+/gu;
  } else if (preTokenizer?.pattern?.unicode) {
    preTokenizer.pattern = unicodeSpaces(preTokenizer.pattern);
  }
}

const replacement = '\ufffd';

class LoadedTokenizer implements Tokenizer {
  readonly vocabSize: number;

  constructor(
    private readonly inner: HuggingFaceApi,
    readonly bosId: number | null,
    readonly eosIds: readonly number[],
    readonly specialTokens: Readonly<Record<string, string>>,
  ) {
    let largest = -1;
    for (const id of inner.get_vocab().values()) largest = Math.max(largest, id);
    this.vocabSize = largest + 1;
  }

  encode(text: string, { addSpecialTokens = true } = {}): number[] {
    const { ids, tokens } = this.inner.encode(text, { add_special_tokens: addSpecialTokens });
    const unknown = ids.indexOf(undefined as never);
    ensure(
      unknown < 0,
      `the tokenizer has neither an id for ${JSON.stringify(tokens[unknown])} nor an unknown-token`,
      'Use a text that the tokenizer covers.',
    );
    return ids;
  }

  decode(ids: readonly number[], { skipSpecialTokens = false } = {}): string {
    const knownIds = ids.filter(id => this.inner.id_to_token(id) !== undefined);
    if (knownIds.length === 0) return '';
    return this.inner.decode(knownIds, {
      skip_special_tokens: skipSpecialTokens,
      // Clean-up removes spaces before punctuation: the text would no longer match the tokens.
      clean_up_tokenization_spaces: false,
    });
  }

  createTextStream(options: { skipSpecialTokens?: boolean } = {}): TextStream {
    // Some decoders drop the first token's space, so new tokens are decoded after the last ones returned.
    let context: number[] = [];
    let pending: number[] = [];
    const release = (whole: boolean): string => {
      const before = this.decode(context, options);
      const text = this.decode([...context, ...pending], options);
      if (!whole && text.endsWith(replacement)) return '';
      context = pending;
      pending = [];
      return text.slice(before.length);
    };
    return {
      push: id => {
        pending.push(id);
        return release(false);
      },
      end: () => (pending.length > 0 ? release(true) : ''),
    };
  }
}

/** A special token is stored as a string or as an object with its content. */
function tokenText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  return isRecord(value) && typeof value.content === 'string' ? value.content : undefined;
}

const asIds = (value: unknown): number[] =>
  (Array.isArray(value) ? value : [value]).filter((id): id is number => Number.isInteger(id));

/**
 * Loads a model's tokenizer from tokenizer.json, and from tokenizer_config.json, special_tokens_map.json, config.json
 * and generation_config.json if they exist.
 *
 * @throws RmError CHECKPOINT_MISSING, CONFIG_INVALID.
 */
export async function loadTokenizer(model: string): Promise<Tokenizer> {
  const source = await openModelSource(model);
  const definition = await requiredJsonOf(source, 'tokenizer.json').catch(async error => {
    // An image encoder has no tokenizer: say so instead.
    const arch = await readArchitecture(model).catch(() => undefined);
    if (arch) requireText(arch);
    throw error;
  });
  const optional = async (name: string): Promise<Record<string, unknown>> => {
    const value = (await jsonOf(source, name)) ?? {};
    if (isRecord(value)) return value;
    throw new RmError(
      'CONFIG_INVALID',
      `${source.nameOf(name)}: is not a JSON object`,
      'Download the file again.',
    );
  };
  const settings = await optional('tokenizer_config.json');
  const tokenMap = await optional('special_tokens_map.json');
  const config = await optional('config.json');
  const generation = await optional('generation_config.json');

  let inner: HuggingFaceApi;
  try {
    inner = new HuggingFaceTokenizer(definition as object, settings);
    fixPreTokenizer(inner.pre_tokenizer);
  } catch (error) {
    throw new RmError(
      'CONFIG_INVALID',
      `${source.nameOf('tokenizer.json')}: the tokenizer cannot be read: ${(error as Error).message}`,
      'Download the file again, or save it with a recent version of transformers.',
      { cause: error },
    );
  }

  const specialTokens: Record<string, string> = {};
  for (const [key, value] of Object.entries({ ...tokenMap, ...settings })) {
    const text = key.endsWith('_token') ? tokenText(value) : undefined;
    if (text !== undefined) specialTokens[key] = text;
  }
  const idOf = (name: string): number[] => asIds(inner.token_to_id(specialTokens[name] ?? ''));
  const first = (...lists: number[][]): number[] => lists.find(list => list.length > 0) ?? [];
  const stated = (name: string) => [asIds(generation[name]), asIds(config[name])];
  const bosId = first(...stated('bos_token_id'), idOf('bos_token'))[0] ?? null;
  const eosIds = first(...stated('eos_token_id'), idOf('eos_token'));
  return new LoadedTokenizer(inner, bosId, eosIds, specialTokens);
}
