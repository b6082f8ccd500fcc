import { DecodingSession } from '../../model/generation/decodingSession.js';
import type { SamplingOptions } from '../../model/generation/sampler.js';
import { writeText } from '../../model/generation/writtenText.js';
import { encodeMessages } from '../../model/text/encodeMessages.js';
import type { TextReader } from '../../model/text/textReader.js';
import type { Model } from '../../model/transformer/model.js';

/** How a model answers in a conversation. */
export interface ConversationOptions extends SamplingOptions {
  maxTokens: number;
  system?: string | undefined;
}

/** A complete answer. */
export interface Answer {
  readonly model: string;
  readonly text: string;
  readonly ids: readonly number[];
  /** Why it ended: end-of-text token, --max-tokens, the model's context, or the user stopped it. */
  readonly stopped: 'end' | 'length' | 'context' | 'interrupted';
  /** Tokens of the whole conversation up to the answer. */
  readonly promptTokens: number;
  /** Those of them that were still in the KV cache. */
  readonly reusedTokens: number;
  readonly seconds: number;
  /** Number of oldest turns forgotten before this answer because they no longer fit the context. */
  readonly forgotten: number;
}

/** A message and its answer. */
interface Turn {
  readonly user: string;
  readonly assistant: string;
}

/**
 * A conversation with one model through its chat template. A model without a template continues the last line. The KV
 * cache stays between turns.
 */
export class Conversation {
  readonly #model: Model;
  readonly #reader: TextReader;
  readonly #options: ConversationOptions;
  readonly #session: DecodingSession;
  #turns: Turn[] = [];
  /** Number of all answers, forgotten ones too: each answer gets its own seed. */
  #answers = 0;

  /**
   * @param name names the model in answers.
   * @param model stays the caller's.
   */
  constructor(
    readonly name: string,
    model: Model,
    reader: TextReader,
    options: ConversationOptions,
  ) {
    this.#model = model;
    this.#reader = reader;
    this.#options = options;
    this.#session = new DecodingSession(model, { texts: 1 });
  }

  /** Forgets the conversation. */
  reset(): void {
    this.#turns = [];
    this.#answers = 0;
  }

  /**
   * Answers a message piece by piece. The answer joins the conversation once the generator returns it; an error leaves
   * the conversation unchanged.
   *
   * @param stop ends the answer after the token in progress.
   * @throws RmError INVALID_ARGUMENT if the message is too long for the model's context, DATA_INVALID if the template
   *   refuses the messages.
   */
  async *answer(
    message: string,
    { stop, signal }: { stop?: AbortSignal; signal?: AbortSignal } = {},
  ): AsyncGenerator<string, Answer, void> {
    const { tokenizer } = this.#reader;
    const { maxTokens, seed = 0, ...sampling } = this.#options;
    const context = this.#model.arch.contextLength;
    // Counts only this answer's time: between pieces the caller may work on another answer.
    let seconds = 0;
    let resumed = performance.now();
    const pause = () => {
      seconds += (performance.now() - resumed) / 1000;
    };
    // Leaves room for an answer of up to a quarter of the context.
    const room = Math.min(maxTokens, Math.floor(context / 4));
    let kept = this.#turns;
    let prompt = await this.#encode(kept, message);
    while (kept.length > 0 && prompt.length + room > context) {
      kept = kept.slice(1);
      prompt = await this.#encode(kept, message);
    }
    let text = '';
    let stopped: Answer['stopped'] | undefined;
    const written = writeText(this.#session, tokenizer, prompt, {
      ...sampling,
      ...{ maxTokens, seed: seed + this.#answers },
      ...(signal && { signal }),
    });
    for await (const piece of written) {
      text += piece;
      // Yields empty pieces too: a caller that alternates between two answers takes one token of each.
      pause();
      yield piece;
      resumed = performance.now();
      if (stop?.aborted) {
        stopped = 'interrupted';
        break;
      }
    }
    pause();
    if (stopped) {
      const rest = await written.rest();
      text += rest;
      yield rest;
    }
    const { ids } = written;
    const full = prompt.length + ids.length >= context ? 'context' : 'end';
    stopped ??= ids.length >= maxTokens ? 'length' : full;
    const forgotten = this.#turns.length - kept.length;
    this.#turns = [...kept, { user: message, assistant: text }];
    this.#answers++;
    return {
      ...{ model: this.name, text, ids, stopped, promptTokens: prompt.length },
      ...{ reusedTokens: written.prompt.reused, seconds, forgotten },
    };
  }

  #encode(turns: readonly Turn[], message: string): Promise<number[]> {
    const { system } = this.#options;
    return encodeMessages(this.#reader, [
      ...(system === undefined ? [] : [{ role: 'system', content: system }]),
      ...turns.flatMap(({ user, assistant }) => [
        { role: 'user', content: user },
        { role: 'assistant', content: assistant },
      ]),
      { role: 'user', content: message },
    ]);
  }

  dispose(): void {
    this.#session.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
