import { checkArguments, instanceOf, listOf, optional, text } from '../../engine/index.js';
import { aTokenizer, settingsAmong, tokenIds } from '../arguments/forms.js';
import type { TextStream } from '../text/textStream.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { Continuation, Ended } from './continuation.js';
import { type ContinueOptions, continueForms, DecodingSession } from './decodingSession.js';
import { StopStrings } from './stopStrings.js';

/** Settings of `writeText`. */
export interface WriteTextOptions extends Omit<ContinueOptions, 'ended'> {
  /** Tokens that end the text (default: the tokenizer's). */
  eosIds?: readonly number[];
  /** Texts that end the text; neither they nor what comes after them are part of it. */
  stop?: readonly string[];
}

const writeSettings = settingsAmong<WriteTextOptions>({ ...continueForms, stop: optional(listOf(text)) });

/** A text that is being written: read its pieces with `for await`, one for each token, some of them empty. */
export class WrittenText implements AsyncIterable<string> {
  readonly #continuation: Continuation;
  readonly #stream: TextStream;
  readonly #stops: StopStrings;
  /** Pieces of tokens that were not read yet. */
  readonly #pieces: string[] = [];
  readonly #ids: number[] = [];

  /** @internal */
  constructor(
    session: DecodingSession,
    tokenizer: Tokenizer,
    prompt: readonly number[],
    { stop = [], ...options }: WriteTextOptions,
  ) {
    this.#stream = tokenizer.createTextStream({ skipSpecialTokens: true });
    this.#stops = new StopStrings(stop);
    this.#continuation = session.continue(prompt, {
      ...{ eosIds: tokenizer.eosIds, ...options },
      // Within the step, so that a text computes nothing after its stop string.
      ended: async tokens => {
        this.#pieces.push(this.#stops.push(await this.#stream.push(tokens.at(-1)!)));
        return this.#stops.found;
      },
    });
  }

  /** The tokens that were read so far. */
  get ids(): readonly number[] {
    return this.#ids;
  }

  /** Why the text has ended; undefined while it goes on, and where its reader left or it failed. */
  get ended(): Ended | undefined {
    return this.#continuation.ended;
  }

  /** Tokens of the prompt, and how many of them were in the cache already. */
  get prompt(): { readonly tokens: number; readonly reused: number } {
    const { promptTokens: tokens, reused } = this.#continuation;
    return { tokens, reused };
  }

  /** @throws as `DecodingSession.continue`. */
  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, void> {
    for await (const id of this.#continuation) {
      this.#ids.push(id);
      yield this.#pieces.shift()!;
    }
    const rest = await this.rest();
    if (rest !== '') yield rest;
  }

  /** What was held back, for a reader that has left the text; else it is the last piece. */
  async rest(): Promise<string> {
    if (this.#stops.found) return '';
    return this.#stops.push(await this.#stream.end()) + this.#stops.end();
  }
}

/**
 * Continues a prompt beside the other texts of a session, as text: until the tokenizer's end-of-text token, a stop string or
 * `maxTokens`.
 *
 * @param prompt token ids.
 * @throws RmError as `DecodingSession.continue`.
 */
export function writeText(
  session: DecodingSession,
  tokenizer: Tokenizer,
  prompt: readonly number[],
  options: WriteTextOptions,
): WrittenText {
  checkArguments(
    'writeText',
    { session, tokenizer, prompt, options },
    {
      session: instanceOf(DecodingSession, 'a DecodingSession'),
      ...{ tokenizer: aTokenizer, prompt: tokenIds, options: writeSettings },
    },
  );
  return new WrittenText(session, tokenizer, prompt, options);
}
