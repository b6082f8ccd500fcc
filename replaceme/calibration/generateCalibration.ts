import {
  type Journal,
  noJournal,
  type Progress,
  RmError,
  seededRandom,
  sha256OfJson,
} from '../../engine/index.js';
import {
  type ChatTemplate,
  type Document,
  encodeDocuments,
  generateTogether,
  type Model,
  placesFor,
  type Tokenizer,
  totalTokens,
} from '../../model/index.js';
import { collectSequences } from './collectSequences.js';
import { type Calibration, openSources } from './readCalibration.js';

export interface GenerationOptions {
  /** Most tokens. The model writes about this many, up to 32 texts at the same time. */
  tokens: number;
  /** Length of the longest sequence; at most the model's context. */
  sequenceLength: number;
  /** Default 1. */
  temperature?: number | undefined;
  /** Default .95. */
  topP?: number | undefined;
  /** Default 0. The same seed, model, adapter and memory limit give the same text. */
  seed?: number | undefined;
  /**
   * What the user says, or for a model without chat template how texts begin; used in turn. Default: the model writes
   * these too.
   */
  prompts?: readonly string[] | undefined;
  onProgress?: Progress | undefined;
  signal?: AbortSignal | undefined;
  /** Records each written text so that another process can resume. */
  journal?: Journal | undefined;
}

/** Writes texts at the same time. */
interface Writer {
  /** How many texts to begin now: no more than are needed if each becomes as long as a sequence. */
  together(): number;
  /** Continues prompts up to `length` tokens in all or to one of the tokens `ends`. */
  continueAll(
    prompts: readonly (readonly number[])[],
    length: number,
    ends: readonly number[],
  ): Promise<number[][]>;
}

/** After this many empty documents in a row the model counts as one that writes nothing. */
const MOST_EMPTY = 100;

/** A model without BOS begins each text with this many tokens of a shipped text. */
const BEGINNING = 8;

/**
 * Documents are at most half of all tokens long, since each half of the sequences needs some, but they may always have
 * this many tokens.
 */
const SHORTEST = 256;

/** Placeholder for the user's words, to find what the template writes around them. */
const USER = 'rm-engine-user-turn';

/**
 * What the template writes before the user's first words, and the first token that it writes after them.
 */
async function userTurn(
  tokenizer: Tokenizer,
  chat: ChatTemplate,
): Promise<{ opening: number[]; end: number[] }> {
  const rendered = await chat.renderChat([{ role: 'user', content: USER }], { addGenerationPrompt: true });
  const at = rendered.indexOf(USER);
  if (at < 0) {
    throw new RmError(
      'CONFIG_INVALID',
      "the chat template does not include the user's words, so the model cannot write them",
      'Give calibration files instead of text that the model generates.',
    );
  }
  const ids = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
  return {
    opening: await ids(rendered.slice(0, at)),
    end: (await ids(rendered.slice(at + USER.length).trim())).slice(0, 1),
  };
}

/**
 * Conversations: the template opens the user's turn, the model writes the user's words into it and then answers them
 * (Magpie, Xu et al., arXiv:2406.08464). The user's turn may take a quarter of a sequence, the answer the rest.
 */
async function* conversations(
  tokenizer: Tokenizer,
  chat: ChatTemplate,
  { sequenceLength, prompts = [] }: GenerationOptions,
  writer: Writer,
): AsyncGenerator<Document | undefined> {
  const { opening, end } = await userTurn(tokenizer, chat);
  const write = async (starts: readonly (readonly number[])[], length: number, ends: readonly number[]) => {
    const written = await writer.continueAll(starts, length, ends);
    const texts = await Promise.all(written.map(ids => tokenizer.decode(ids, { skipSpecialTokens: true })));
    return texts.map(text => text.trim());
  };
  const most = opening.length + Math.ceil(sequenceLength / 4);
  for (let turn = 0; ; ) {
    const turns = Array.from({ length: writer.together() }, () => turn++);
    const questions =
      prompts.length > 0
        ? turns.map(at => prompts[at % prompts.length]!)
        : await write(new Array(turns.length).fill(opening), most, [...tokenizer.eosIds, ...end]);
    const users = questions.map(content => ({ role: 'user', content }));
    const rendered = await Promise.all(
      users.map(user => chat.renderChat([user], { addGenerationPrompt: true })),
    );
    const starts = await tokenizer.encodeBatch(rendered, { addSpecialTokens: false });
    const asked = users.flatMap((user, at) => (user.content ? [{ user, start: starts[at]! }] : []));
    const answers = await write(
      asked.map(({ start }) => start),
      sequenceLength,
      tokenizer.eosIds,
    );
    for (let empty = asked.length; empty < users.length; empty++) yield undefined;
    for (const [at, content] of answers.entries()) {
      yield content ? { messages: [asked[at]!.user, { role: 'assistant', content }] } : undefined;
    }
  }
}

/**
 * Texts of a model without chat template. They begin with BOS, or else with the first tokens of the texts that ship with
 * the package.
 */
async function* texts(
  tokenizer: Tokenizer,
  chat: ChatTemplate,
  { sequenceLength, prompts }: GenerationOptions,
  writer: Writer,
): AsyncGenerator<Document | undefined> {
  const bos = tokenizer.bosId === null ? [] : [tokenizer.bosId];
  const opening = tokenizer.opening.length > 0 ? tokenizer.opening : bos;
  const beginnings = prompts?.length
    ? await tokenizer.encodeBatch(prompts, { addSpecialTokens: false })
    : opening.length > 0
      ? [[]]
      : await shippedBeginnings(tokenizer, chat);
  for (let text = 0; ; ) {
    const own = Array.from({ length: writer.together() }, () => beginnings[text++ % beginnings.length]!);
    const starts = own.map(beginning => [...opening, ...beginning]);
    const added = await writer.continueAll(starts, sequenceLength, tokenizer.eosIds);
    for (const [at, ids] of added.entries()) {
      const written = await tokenizer.decode([...own[at]!, ...ids], { skipSpecialTokens: true });
      yield ids.length ? { text: written } : undefined;
    }
  }
}

async function shippedBeginnings(tokenizer: Tokenizer, chat: ChatTemplate): Promise<number[][]> {
  const { sources } = await openSources({ tokenizer, chat }, {});
  const beginnings: number[][] = [];
  for (const source of sources) {
    for await (const { ids, isChat } of source) if (!isChat) beginnings.push(ids.slice(0, BEGINNING));
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
 * Lets the model itself write calibration text (like ReplaceMe's "orca_generated", Table 4, whose recipe is unpublished):
 * conversations if it has a chat template, plain texts otherwise. Its documents form one source and are divided into two
 * halves like texts from files.
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
    ...sizes
  } = options;
  const { contextLength } = model.arch;
  const half = Math.max(SHORTEST, Math.ceil(sizes.tokens / 2));
  const sequenceLength = Math.min(sizes.sequenceLength, contextLength, half);
  const random = seededRandom(seed);
  const places = placesFor(model, sequenceLength);
  let done = 0;
  const onToken = () => {
    done++;
    onProgress?.({ phase: 'generate', done, total: 0, unit: 'tokens' });
  };
  const writer: Writer = {
    together: () => Math.max(1, Math.min(places, Math.ceil((sizes.tokens - done) / sequenceLength))),
    continueAll: async (prompts, length, eosIds) => {
      const requests = prompts.map(prompt => {
        const seed = Math.floor(random() * 2 ** 32);
        return { prompt, maxTokens: length - prompt.length, seed };
      });
      const open = requests.filter(({ maxTokens }) => maxTokens > 0);
      const before = done;
      const written = await journal.step('texts', () =>
        generateTogether(model, open, { eosIds, temperature, topP, signal, onToken }),
      );
      // As many after a resumption, where nothing is written again.
      done = before + totalTokens(written);
      const all = written[Symbol.iterator]();
      return requests.map(({ maxTokens }) => (maxTokens > 0 ? (all.next().value as number[]) : []));
    },
  };
  const generateDocuments = chat.available ? conversations : texts;
  const documents = withoutEmpty(generateDocuments(tokenizer, chat, { ...sizes, sequenceLength }, writer));
  // The model must write no document that is not needed.
  const encoded = encodeDocuments(documents, tokenizer, chat, { ahead: 1 });
  const sequences = await collectSequences([encoded], tokenizer, { sequenceLength, tokens: sizes.tokens });
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
