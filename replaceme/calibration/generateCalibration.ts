import { type Journal, noJournal, type Progress, RmError, seededRandom } from '../../engine/index.js';
import {
  type ChatTemplate,
  type Document,
  generate,
  type Model,
  type Tokenizer,
  totalTokens,
} from '../../model/index.js';
import { sha256OfJson } from '../run/sha256.js';
import { collectSequences } from './collectSequences.js';
import { type Calibration, openSources } from './readCalibration.js';

export interface GenerationOptions {
  /** Tokens at most. The model writes about this many, token by token. */
  tokens: number;
  /** Longest sequence; at most the model's context. */
  sequenceLength: number;
  /** Default 1. */
  temperature?: number | undefined;
  /** Default .95. */
  topP?: number | undefined;
  /** Default 0. The same seed, model and adapter give the same text. */
  seed?: number | undefined;
  /**
   * Taken in turn: what the user says, or for a model without chat template how texts begin. Default: the model
   * decides.
   */
  prompts?: readonly string[] | undefined;
  onProgress?: Progress | undefined;
  signal?: AbortSignal | undefined;
  /** Keeps what is written, for another process to go on from. */
  journal?: Journal | undefined;
}

/** Continues token ids, at most to `length` in all, until one of `ends`. */
type Continue = (prompt: readonly number[], length: number, ends: readonly number[]) => Promise<number[]>;

/** Documents in a row that may come out empty before the model is taken for one that writes nothing. */
const MOST_EMPTY = 100;

/** Tokens of a shipped text that begin a text of a model which has no BOS to begin with. */
const BEGINNING = 8;

/**
 * Documents need not be longer than half of what is wanted, since either half of the sequences has some, nor shorter
 * than this.
 */
const SHORTEST = 256;

/** Stands where the user's words go, to find what the template writes around them. */
const USER = 'rm-engine-user-turn';

/**
 * What the template writes before the user's first words, and the token with which it begins what comes behind them.
 */
function userTurn(tokenizer: Tokenizer, chat: ChatTemplate): { opening: number[]; end: number[] } {
  const rendered = chat.renderChat([{ role: 'user', content: USER }], { addGenerationPrompt: true });
  const at = rendered.indexOf(USER);
  if (at < 0) {
    throw new RmError(
      'CONFIG_INVALID',
      'the chat template does not write what the user says, so the model cannot write it either',
      'Give calibration files instead of text that the model generates.',
    );
  }
  const ids = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
  return {
    opening: ids(rendered.slice(0, at)),
    end: ids(rendered.slice(at + USER.length).trim()).slice(0, 1),
  };
}

/**
 * Conversations: the model writes the user's words into a turn that the template has opened, and answers them
 * (Magpie, Xu et al., arXiv:2406.08464). The user's turn may take a quarter of a sequence, the answer the rest.
 */
async function* conversations(
  tokenizer: Tokenizer,
  chat: ChatTemplate,
  { sequenceLength, prompts = [] }: GenerationOptions,
  goOn: Continue,
): AsyncGenerator<Document | undefined> {
  const { opening, end } = userTurn(tokenizer, chat);
  const written = async (prompt: readonly number[], length: number, ends: readonly number[]) =>
    tokenizer.decode(await goOn(prompt, length, ends), { skipSpecialTokens: true }).trim();
  for (let turn = 0; ; turn++) {
    const given = prompts[turn % prompts.length];
    const most = opening.length + Math.ceil(sequenceLength / 4);
    const question = given ?? (await written(opening, most, [...tokenizer.eosIds, ...end]));
    const user = { role: 'user', content: question };
    const asked = chat.renderChat([user], { addGenerationPrompt: true });
    const answer = question
      ? await written(tokenizer.encode(asked, { addSpecialTokens: false }), sequenceLength, tokenizer.eosIds)
      : '';
    yield answer ? { messages: [user, { role: 'assistant', content: answer }] } : undefined;
  }
}

/**
 * Texts of a model without chat template: from BOS, or else from the first tokens of the texts that ship with the
 * package.
 */
async function* texts(
  tokenizer: Tokenizer,
  chat: ChatTemplate,
  { sequenceLength, prompts }: GenerationOptions,
  goOn: Continue,
): AsyncGenerator<Document | undefined> {
  const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
  const bos = tokenizer.encode('')[0] ?? tokenizer.bosId;
  const opening = bos === null ? [] : [bos];
  const beginnings = prompts?.length
    ? prompts.map(encode)
    : bos === null
      ? await shippedBeginnings(chat, encode)
      : [[]];
  for (let text = 0; ; text++) {
    const beginning = beginnings[text % beginnings.length]!;
    const added = await goOn([...opening, ...beginning], sequenceLength, tokenizer.eosIds);
    const written = tokenizer.decode([...beginning, ...added], { skipSpecialTokens: true });
    yield added.length ? { text: written } : undefined;
  }
}

async function shippedBeginnings(
  chat: ChatTemplate,
  encode: (text: string) => number[],
): Promise<number[][]> {
  const { sources } = await openSources(chat, {});
  const beginnings: number[][] = [];
  for (const source of sources) {
    for await (const document of source) {
      if ('text' in document) beginnings.push(encode(document.text).slice(0, BEGINNING));
    }
  }
  return beginnings;
}

async function* withoutEmpty(documents: AsyncGenerator<Document | undefined>): AsyncGenerator<Document> {
  let empty = 0;
  for await (const document of documents) {
    if (document) yield document;
    empty = document ? 0 : empty + 1;
    if (empty < MOST_EMPTY) continue;
    throw new RmError(
      'DATA_INVALID',
      `the model wrote nothing ${MOST_EMPTY} times in a row`,
      'Give calibration files, or prompts that it answers.',
    );
  }
}

/**
 * Calibration text that the model itself writes (as ReplaceMe's "orca_generated", Table 4, whose recipe is not
 * published): conversations with a chat template, plain texts without. What it writes goes the way of texts that are
 * read, in two halves by documents, and is one source.
 *
 * @throws RmError DATA_INVALID for a model that writes nothing; as generate.
 */
export async function generateCalibration(
  model: Model,
  tokenizer: Tokenizer,
  chat: ChatTemplate,
  options: GenerationOptions,
): Promise<Calibration> {
  const {
    temperature = 1,
    topP = 0.95,
    seed = 0,
    onProgress,
    signal,
    journal = noJournal,
    ...wanted
  } = options;
  const { contextLength } = model.arch;
  const half = Math.max(SHORTEST, Math.ceil(wanted.tokens / 2));
  const sequenceLength = Math.min(wanted.sequenceLength, contextLength, half);
  const random = seededRandom(seed);
  let done = 0;
  const goOn: Continue = (prompt, length, ends) =>
    prompt.length < length
      ? written(prompt, length - prompt.length, ends, Math.floor(random() * 2 ** 32))
      : Promise.resolve([]);
  const written = (prompt: readonly number[], maxTokens: number, eosIds: readonly number[], seed: number) =>
    journal.step('text', () =>
      generate(model, prompt, {
        ...{ maxTokens, eosIds, temperature, topP, seed },
        ...(signal && { signal }),
        onToken: () => {
          done++;
          onProgress?.({ phase: 'generate', done, total: 0, unit: 'tokens' });
        },
      }),
    );
  const write = chat.available ? conversations : texts;
  const documents = withoutEmpty(write(tokenizer, chat, { ...wanted, sequenceLength }, goOn));
  const sequences = await collectSequences([documents], tokenizer, chat, {
    sequenceLength,
    tokens: wanted.tokens,
  });
  const ids = sequences.map(sequence => sequence.ids);
  const tokens = totalTokens(ids);
  const file = {
    path: `generated by the model (seed ${seed}, temperature ${temperature}, top-p ${topP})`,
    sha256: sha256OfJson(ids),
    weight: 1,
    tokens,
  };
  return { sequences, tokens, files: [file] };
}
