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
  generate,
  type Model,
  type Tokenizer,
  totalTokens,
} from '../../model/index.js';
import { collectSequences } from './collectSequences.js';
import { type Calibration, openSources } from './readCalibration.js';

export interface GenerationOptions {
  /** Most tokens. The model writes about this many, one by one. */
  tokens: number;
  /** Length of the longest sequence; at most the model's context. */
  sequenceLength: number;
  /** Default 1. */
  temperature?: number | undefined;
  /** Default .95. */
  topP?: number | undefined;
  /** Default 0. The same seed, model and adapter give the same text. */
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

/** Continues a prompt up to `length` tokens in all or to one of the tokens `ends`. */
type Continue = (prompt: readonly number[], length: number, ends: readonly number[]) => Promise<number[]>;

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
  continueIds: Continue,
): AsyncGenerator<Document | undefined> {
  const { opening, end } = await userTurn(tokenizer, chat);
  const write = async (prompt: readonly number[], length: number, ends: readonly number[]) =>
    (await tokenizer.decode(await continueIds(prompt, length, ends), { skipSpecialTokens: true })).trim();
  for (let turn = 0; ; turn++) {
    const prompt = prompts[turn % prompts.length];
    const most = opening.length + Math.ceil(sequenceLength / 4);
    const question = prompt ?? (await write(opening, most, [...tokenizer.eosIds, ...end]));
    const user = { role: 'user', content: question };
    const rendered = await chat.renderChat([user], { addGenerationPrompt: true });
    const answer = question
      ? await write(
          await tokenizer.encode(rendered, { addSpecialTokens: false }),
          sequenceLength,
          tokenizer.eosIds,
        )
      : '';
    yield answer ? { messages: [user, { role: 'assistant', content: answer }] } : undefined;
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
  continueIds: Continue,
): AsyncGenerator<Document | undefined> {
  const bos = tokenizer.bosId === null ? [] : [tokenizer.bosId];
  const opening = tokenizer.opening.length > 0 ? tokenizer.opening : bos;
  const beginnings = prompts?.length
    ? await tokenizer.encodeBatch(prompts, { addSpecialTokens: false })
    : opening.length > 0
      ? [[]]
      : await shippedBeginnings(tokenizer, chat);
  for (let text = 0; ; text++) {
    const beginning = beginnings[text % beginnings.length]!;
    const added = await continueIds([...opening, ...beginning], sequenceLength, tokenizer.eosIds);
    const written = await tokenizer.decode([...beginning, ...added], { skipSpecialTokens: true });
    yield added.length ? { text: written } : undefined;
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
  let done = 0;
  const continueIds: Continue = (prompt, length, ends) =>
    prompt.length < length
      ? write(prompt, length - prompt.length, ends, Math.floor(random() * 2 ** 32))
      : Promise.resolve([]);
  const write = (prompt: readonly number[], maxTokens: number, eosIds: readonly number[], seed: number) =>
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
  const generateDocuments = chat.available ? conversations : texts;
  const documents = withoutEmpty(
    generateDocuments(tokenizer, chat, { ...sizes, sequenceLength }, continueIds),
  );
  // One at a time: the model must write no document that is not needed.
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
