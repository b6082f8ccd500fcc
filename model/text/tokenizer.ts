import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { ensure, RmError } from '../../engine/index.js';
import { requireText } from '../architecture/modality.js';
import { jsonOf, requiredJsonOf } from '../checkpoint/modelSource.js';
import { isRecord } from '../files/jsonFile.js';
import { openModelSource } from '../source/openModelSource.js';
import { readArchitecture } from '../source/readArchitecture.js';

/** Turns token ids that arrive one at a time into text, never cutting a character in two. */
export interface TextStream {
  /** Text that became certain with this token; may be empty. */
  push(id: number): string;
  /** What was held back, at the end of the text. */
  end(): string;
}

/** The tokenizer of a model folder. */
export interface Tokenizer {
  /** One more than the largest id in tokenizer.json; a model's vocabulary may be padded beyond it. */
  readonly vocabSize: number;
  readonly bosId: number | null;
  /** Ids that end a generated text, from generation_config.json, else config.json, else tokenizer_config.json. */
  readonly eosIds: readonly number[];
  /** bos_token, eos_token, pad_token ... as text, for chat templates. */
  readonly specialTokens: Readonly<Record<string, string>>;
  /** Token ids of a text. `addSpecialTokens` (default true) lets tokenizer.json add its BOS and the like. */
  encode(text: string, options?: { addSpecialTokens?: boolean }): number[];
  /** The text of token ids; ids that tokenizer.json does not have are left out. */
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
  /** For generation; the pieces together equal decode() of all ids. */
  createTextStream(options?: { skipSpecialTokens?: boolean }): TextStream;
}

/** What is used of the library; its own declarations import without file endings, which NodeNext does not resolve. */
interface Inner {
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
  /** Of a Sequence. */
  readonly tokenizers?: readonly (PreTokenizer | null)[];
  pattern?: RegExp | null;
}

/** `\s` and `\S` of a regular expression as Rust and Oniguruma mean them: White_Space has U+0085 and lacks U+FEFF. */
const unicodeSpaces = (pattern: RegExp): RegExp =>
  new RegExp(
    pattern.source.replace(/\\(.)/gsu, (escaped, letter: string) =>
      letter === 's' ? '\\p{White_Space}' : letter === 'S' ? '\\P{White_Space}' : escaped,
    ),
    pattern.flags,
  );

/**
 * Mends two places where @huggingface/tokenizers 0.2.0 splits a text differently from the Rust tokenizers that models
 * are trained with: its Digits knows only 0-9 where Rust takes every Unicode number (half, Roman eight, superscripts),
 * and JavaScript's \s is not quite Unicode's White_Space.
 */
function mend(preTokenizer: PreTokenizer | null): void {
  preTokenizer?.tokenizers?.forEach(mend);
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
    private readonly inner: Inner,
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
      `the tokenizer has no id for ${JSON.stringify(tokens[unknown])} and no unknown-token`,
      'Use a text that the tokenizer covers.',
    );
    return ids;
  }

  decode(ids: readonly number[], { skipSpecialTokens = false } = {}): string {
    const known = ids.filter(id => this.inner.id_to_token(id) !== undefined);
    if (known.length === 0) return '';
    return this.inner.decode(known, {
      skip_special_tokens: skipSpecialTokens,
      // Clean-up removes spaces before punctuation: the text would no longer be what the tokens say.
      clean_up_tokenization_spaces: false,
    });
  }

  createTextStream(options: { skipSpecialTokens?: boolean } = {}): TextStream {
    // Some decoders drop the first token's space, so new tokens are decoded together with those last given out.
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

/** A special token is written as a string or as an object with its content. */
function tokenText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  return isRecord(value) && typeof value.content === 'string' ? value.content : undefined;
}

const asIds = (value: unknown): number[] =>
  (Array.isArray(value) ? value : [value]).filter((id): id is number => Number.isInteger(id));

/**
 * The tokenizer of a model: tokenizer.json, with tokenizer_config.json, special_tokens_map.json, config.json
 * and generation_config.json where they exist. Throws CHECKPOINT_MISSING, CONFIG_INVALID.
 */
export async function loadTokenizer(model: string): Promise<Tokenizer> {
  const source = await openModelSource(model);
  const definition = await requiredJsonOf(source, 'tokenizer.json').catch(async error => {
    // Of an image encoder that is no oversight.
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

  let inner: Inner;
  try {
    inner = new HuggingFaceTokenizer(definition as object, settings);
    mend(inner.pre_tokenizer);
  } catch (error) {
    throw new RmError(
      'CONFIG_INVALID',
      `${source.nameOf('tokenizer.json')}: not a tokenizer that can be read: ${(error as Error).message}`,
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
