import { checkArguments, ensure, RmError, reasonOf } from '../../engine/index.js';
import { requireText } from '../architecture/modality.js';
import { aPath } from '../arguments/forms.js';
import { IsolatedProcess } from '../files/isolatedProcess.js';
import { isRecord } from '../files/jsonFile.js';
import { openModelSource } from '../source/openModelSource.js';
import { readArchitecture } from '../source/readArchitecture.js';
import { readSpecialTokens, type SpecialTokens } from './addedTokens.js';
import { createTextStream, type TextStream } from './textStream.js';
import { optionalJson, readTokenizerFiles } from './tokenizerFiles.js';
import type { TokenizerRequests } from './tokenizerWorker.js';

/** Settings of `encode` and `encodeBatch`. */
export interface EncodeOptions {
  /** Whether to add the special tokens that tokenizer.json asks for, such as BOS (default true). */
  addSpecialTokens?: boolean;
}

/** Settings of `decode` and `createTextStream`. */
export interface DecodeOptions {
  /** Whether to leave out special tokens (default false). */
  skipSpecialTokens?: boolean;
}

/**
 * A model's tokenizer: Hugging Face's own, in a process of its own, which ends with this one or when nothing refers to the
 * tokenizer any more; `using` ends it earlier. All functions throw CONFIG_INVALID where tokenizer.json makes the library
 * fail on a text, or gives a token an id beyond the model's embedding.
 */
export interface Tokenizer extends Disposable {
  /** One more than the largest id in the tokenizer's files; a model's vocabulary may be padded beyond it. */
  readonly vocabSize: number;
  readonly bosId: number | null;
  /** Ids that end generation, from generation_config.json, else config.json, else tokenizer_config.json. */
  readonly eosIds: readonly number[];
  /** What `encode` puts before a text, such as BOS; empty if nothing. */
  readonly opening: readonly number[];
  /** bos_token, eos_token, pad_token ... as text, for chat templates. */
  readonly specialTokens: Readonly<Record<string, string>>;
  /** Encodes a text. */
  encode(text: string, options?: EncodeOptions): Promise<number[]>;
  /** Encodes many texts, each on its own, on all cores. */
  encodeBatch(texts: readonly string[], options?: EncodeOptions): Promise<number[][]>;
  /** Decodes token ids; skips ids that the tokenizer does not have. @throws RmError INVALID_ARGUMENT for what is no id. */
  decode(ids: readonly number[], options?: DecodeOptions): Promise<string>;
  /** Decodes many lists of token ids, as `decode`. */
  decodeBatch(lists: readonly (readonly number[])[], options?: DecodeOptions): Promise<string[]>;
  /** Decodes while generating; the pieces together equal decode() of all ids. */
  createTextStream(options?: DecodeOptions): TextStream;
}

/** The most characters of one request. */
const CHARACTERS = 1 << 20;

/** Ends the processes of tokenizers that nothing refers to any more. */
const forgotten = new FinalizationRegistry<IsolatedProcess>(process => process.stop());

/** The requests to the library, and its failures as errors about the file. */
class TokenizerProcess {
  readonly #process = new IsolatedProcess(new URL('./tokenizerWorker.js', import.meta.url));

  constructor(private readonly path: string) {}

  async ask<Kind extends keyof TokenizerRequests>(
    kind: Kind,
    body: Omit<TokenizerRequests[Kind], 'result'>,
  ): Promise<TokenizerRequests[Kind]['result']> {
    try {
      return (await this.#process.request({ kind, ...body })) as TokenizerRequests[Kind]['result'];
    } catch (error) {
      const doing = {
        load: 'cannot be read',
        encode: 'fails on a text',
        decode: 'fails on token ids',
        idsOf: 'fails',
      };
      throw new RmError(
        'CONFIG_INVALID',
        `${this.path}: the tokenizer ${doing[kind]}: ${reasonOf(error)}`,
        kind === 'load'
          ? 'Download the file again, or save it with a recent version of transformers.'
          : 'Use a text that the tokenizer covers, or the tokenizer files published with the model.',
        { cause: error },
      );
    }
  }

  endWith(owner: object): void {
    forgotten.register(owner, this.#process);
  }

  stop(): void {
    this.#process.stop();
  }
}

interface LoadedParts
  extends Pick<Tokenizer, 'vocabSize' | 'bosId' | 'eosIds' | 'opening' | 'specialTokens'> {
  readonly path: string;
  /** Rows of the model's embedding; infinity if unknown. */
  readonly rows: number;
}

class LoadedTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosId: number | null;
  readonly eosIds: readonly number[];
  readonly opening: readonly number[];
  readonly specialTokens: Readonly<Record<string, string>>;

  constructor(
    private readonly process: TokenizerProcess,
    private readonly parts: LoadedParts,
  ) {
    process.endWith(this);
    this.vocabSize = parts.vocabSize;
    this.bosId = parts.bosId;
    this.eosIds = parts.eosIds;
    this.opening = parts.opening;
    this.specialTokens = parts.specialTokens;
  }

  async encode(text: string, options?: EncodeOptions): Promise<number[]> {
    const [ids] = await this.encodeBatch([text], options);
    return ids!;
  }

  async encodeBatch(texts: readonly string[], { addSpecialTokens = true } = {}): Promise<number[][]> {
    const all: number[][] = [];
    for (let start = 0; start < texts.length; ) {
      let end = start + 1;
      let characters = texts[start]!.length;
      while (end < texts.length && characters + texts[end]!.length <= CHARACTERS)
        characters += texts[end++]!.length;
      for (const ids of await this.process.ask('encode', {
        texts: texts.slice(start, end),
        addSpecialTokens,
      })) {
        await this.#checkRows(ids);
        all.push(Array.from(ids));
      }
      start = end;
    }
    return all;
  }

  async #checkRows(ids: Uint32Array): Promise<void> {
    const { path, rows } = this.parts;
    const beyond = ids.find(id => id >= rows);
    if (beyond === undefined) return;
    const token = JSON.stringify(await this.decode([beyond]));
    throw new RmError(
      'CONFIG_INVALID',
      `${path}: the text contains ${token} with the id ${beyond}, but the model's embedding has ${rows} rows`,
      'Use the tokenizer files published with the model, or texts without this token.',
    );
  }

  async decode(ids: readonly number[], options?: DecodeOptions): Promise<string> {
    const [text] = await this.decodeBatch([ids], options);
    return text!;
  }

  async decodeBatch(
    lists: readonly (readonly number[])[],
    { skipSpecialTokens = false }: DecodeOptions = {},
  ): Promise<string[]> {
    for (const ids of lists) {
      const wrong = ids.find(id => !Number.isInteger(id) || id < 0 || id >= 2 ** 32);
      ensure(wrong === undefined, `${wrong} is not a token id`, 'Give whole numbers from 0.');
    }
    return await this.process.ask('decode', { ids: lists, skipSpecialTokens });
  }

  createTextStream(options?: DecodeOptions): TextStream {
    return createTextStream(lists => this.decodeBatch(lists, options));
  }

  [Symbol.dispose](): void {
    this.process.stop();
  }
}

const asIds = (value: unknown): number[] =>
  (Array.isArray(value) ? value : [value]).filter((id): id is number => Number.isInteger(id));

/** Rows of the model's embedding by config.json, which other functions check; infinity if it does not say. */
function embeddingRows(config: Readonly<Record<string, unknown>>): number {
  const text = isRecord(config.text_config) ? config.text_config : {};
  const rows = config.vocab_size ?? text.vocab_size;
  return Number.isInteger(rows) && (rows as number) > 0 ? (rows as number) : Number.POSITIVE_INFINITY;
}

/** @throws RmError CONFIG_INVALID if the model's part of tokenizer.json has a token beyond the embedding. */
function checkVocabulary({ stated }: SpecialTokens, rows: number): void {
  const beyond = stated.find(({ id, ofModel }) => ofModel && id >= rows);
  if (!beyond) return;
  throw new RmError(
    'CONFIG_INVALID',
    `${beyond.file}: gives the token ${JSON.stringify(beyond.content)} the id ${beyond.id}, but the model's embedding has ${rows} rows`,
    'Use the tokenizer files published with the model.',
  );
}

/** @throws RmError CONFIG_INVALID if the library gives a token another id than a file. */
async function checkIds(process: TokenizerProcess, { stated: all }: SpecialTokens): Promise<void> {
  const stated = all.filter(({ ofModel }) => !ofModel);
  const ids = await process.ask('idsOf', { tokens: stated.map(({ content }) => content) });
  for (const [i, { content, id, file }] of stated.entries()) {
    if (ids[i] === id) continue;
    const token = JSON.stringify(content);
    throw new RmError(
      'CONFIG_INVALID',
      `${file}: gives the token ${token} the id ${id}, but its place after the other tokens gives it ${ids[i]}`,
      'Take all tokenizer files from one model, or save them again with transformers.',
    );
  }
}

/**
 * Loads a model's tokenizer from tokenizer.json, and from tokenizer_config.json, special_tokens_map.json,
 * added_tokens.json, config.json and generation_config.json if they exist.
 *
 * @throws RmError CHECKPOINT_MISSING; CONFIG_INVALID for files that are damaged or contradict each other.
 */
export async function loadTokenizer(model: string): Promise<Tokenizer> {
  checkArguments('loadTokenizer', { model }, { model: aPath });
  const source = await openModelSource(model);
  const files = await readTokenizerFiles(source).catch(async error => {
    // An image encoder has no tokenizer: say so instead.
    const arch = await readArchitecture(model).catch(() => undefined);
    if (arch) requireText(arch);
    throw error;
  });
  const path = source.nameOf('tokenizer.json');
  const config = await optionalJson(source, 'config.json');
  const generation = await optionalJson(source, 'generation_config.json');
  const special = readSpecialTokens(files);
  const rows = embeddingRows(config);
  checkVocabulary(special, rows);
  const process = new TokenizerProcess(path);
  try {
    const { opening } = await process.ask('load', { definition: files.text, added: special.added });
    await checkIds(process, special);
    const ids = await tokenIds(process, special);
    const first = (...lists: number[][]): number[] => lists.find(list => list.length > 0) ?? [];
    const stated = (name: string) => [asIds(generation[name]), asIds(config[name])];
    return new LoadedTokenizer(process, {
      ...{ path, rows, opening },
      vocabSize: special.stated.reduce((most, { id }) => Math.max(most, id + 1), 0),
      bosId: first(...stated('bos_token_id'), asIds(ids.bos_token))[0] ?? null,
      eosIds: first(...stated('eos_token_id'), asIds(ids.eos_token)),
      specialTokens: special.named,
    });
  } catch (error) {
    process.stop();
    throw error;
  }
}

/** The ids of the named special tokens. */
async function tokenIds(
  process: TokenizerProcess,
  { named }: SpecialTokens,
): Promise<Readonly<Record<string, number | null>>> {
  const ids = await process.ask('idsOf', { tokens: Object.values(named) });
  return Object.fromEntries(Object.keys(named).map((name, i) => [name, ids[i]!]));
}
