import { DecodingSession } from '../../model/generation/decodingSession.js';
import type { SamplingOptions } from '../../model/generation/sampler.js';
import type { ChatMessage } from '../../model/text/documents.js';
import type { Model } from '../../model/transformer/model.js';
import type { TextTools } from '../options/sequences.js';

export interface ConversationOptions extends SamplingOptions {
  maxTokens: number;
  system?: string | undefined;
}

/** An answer that is complete. */
export interface Answer {
  readonly model: string;
  readonly text: string;
  readonly ids: readonly number[];
  /** Why it ends: the model's end-of-text token, --max-tokens, the model's context, or it was stopped. */
  readonly stopped: 'end' | 'length' | 'context' | 'interrupted';
  /** Tokens of the whole conversation up to the answer, and how many of them were still in the KV cache. */
  readonly promptTokens: number;
  readonly reusedTokens: number;
  readonly seconds: number;
  /** Oldest turns that no longer fit the context and were forgotten before this one. */
  readonly forgotten: number;
}

/** A message and its answer. */
interface Turn {
  readonly user: string;
  readonly assistant: string;
}

/**
 * A conversation with one model through its chat template; without one the model goes on writing where the last line
 * ended. The KV cache stays between turns.
 */
export class Conversation {
  readonly #model: Model;
  readonly #tools: TextTools;
  readonly #options: ConversationOptions;
  readonly #session: DecodingSession;
  #turns: Turn[] = [];
  /** All answers, those that were forgotten too: each has a seed of its own. */
  #answers = 0;

  /** @param name how answers name the model. The model stays the caller's. */
  constructor(
    readonly name: string,
    model: Model,
    tools: TextTools,
    options: ConversationOptions,
  ) {
    this.#model = model;
    this.#tools = tools;
    this.#options = options;
    this.#session = new DecodingSession(model);
  }

  /** Forgets everything said. */
  reset(): void {
    this.#turns = [];
    this.#answers = 0;
  }

  /**
   * Answers a message piece by piece; the answer becomes part of the conversation when the generator has returned it.
   *
   * @param stop ends the answer after the token in progress.
   * @throws RmError INVALID_ARGUMENT for a message too long for the model's context, DATA_INVALID where the template
   *   refuses the messages; the conversation is then what it was.
   */
  async *answer(
    message: string,
    { stop, signal }: { stop?: AbortSignal; signal?: AbortSignal } = {},
  ): AsyncGenerator<string, Answer, void> {
    const { tokenizer } = this.#tools;
    const { maxTokens, seed = 0, ...sampling } = this.#options;
    const context = this.#model.arch.contextLength;
    // Own time only: whoever takes the pieces may work on another answer meanwhile.
    let seconds = 0;
    let resumed = performance.now();
    const pause = () => {
      seconds += (performance.now() - resumed) / 1000;
    };
    // An answer of a quarter of the context should fit.
    const room = Math.min(maxTokens, Math.floor(context / 4));
    let kept = this.#turns;
    let prompt = this.#encode(kept, message);
    while (kept.length > 0 && prompt.length + room > context) {
      kept = kept.slice(1);
      prompt = this.#encode(kept, message);
    }
    const stream = tokenizer.createTextStream({ skipSpecialTokens: true });
    const ids: number[] = [];
    let text = '';
    let stopped: Answer['stopped'] | undefined;
    const tokens = this.#session.continue(prompt, {
      ...sampling,
      ...{ maxTokens, seed: seed + this.#answers, eosIds: tokenizer.eosIds },
      ...(signal && { signal }),
    });
    for await (const id of tokens) {
      ids.push(id);
      const piece = stream.push(id);
      text += piece;
      // Also where it is empty: whoever alternates between two answers takes one token of each.
      pause();
      yield piece;
      resumed = performance.now();
      if (stop?.aborted) {
        stopped = 'interrupted';
        break;
      }
    }
    pause();
    const rest = stream.end();
    text += rest;
    if (rest) yield rest;
    const full = prompt.length + ids.length >= context ? 'context' : 'end';
    stopped ??= ids.length >= maxTokens ? 'length' : full;
    const forgotten = this.#turns.length - kept.length;
    this.#turns = [...kept, { user: message, assistant: text }];
    this.#answers++;
    return {
      ...{ model: this.name, text, ids, stopped, promptTokens: prompt.length },
      ...{ reusedTokens: this.#session.reused, seconds, forgotten },
    };
  }

  #encode(turns: readonly Turn[], message: string): number[] {
    const { tokenizer, chat } = this.#tools;
    const { system } = this.#options;
    if (!chat.available) {
      const said = turns.map(({ user, assistant }) => user + assistant);
      return tokenizer.encode([...(system === undefined ? [] : [system]), ...said, message].join('\n'));
    }
    const messages: ChatMessage[] = [
      ...(system === undefined ? [] : [{ role: 'system', content: system }]),
      ...turns.flatMap(({ user, assistant }) => [
        { role: 'user', content: user },
        { role: 'assistant', content: assistant },
      ]),
      { role: 'user', content: message },
    ];
    return tokenizer.encode(chat.renderChat(messages, { addGenerationPrompt: true }), {
      addSpecialTokens: false,
    });
  }

  dispose(): void {
    this.#session.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
