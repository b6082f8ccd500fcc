import { checkArguments, type FormsOf, optional, RmError, whole } from '../../engine/index.js';
import { aModel, maybeSignal, settingsAmong, tokenIds } from '../arguments/forms.js';
import type { Model } from '../transformer/model.js';
import { Decoder } from './decoder.js';
import { type SamplingOptions, samplingForms, samplingOf, tokenRandom } from './sampler.js';

/** Settings of `DecodingSession.continue`. */
export interface ContinueOptions extends SamplingOptions {
  /** Most new tokens. */
  maxTokens: number;
  /** Tokens that end the text; the ending token is not returned. */
  eosIds?: readonly number[];
  signal?: AbortSignal;
}

/** The forms of `ContinueOptions`. */
export const continueForms: FormsOf<ContinueOptions> = {
  ...samplingForms,
  maxTokens: whole(),
  eosIds: optional(tokenIds),
  signal: maybeSignal,
};
const continueSettings = settingsAmong<ContinueOptions>(continueForms);

/** Tokens that a prompt leaves room for. @throws RmError INVALID_ARGUMENT for an empty prompt, or where it is none. */
export function roomAfter(prompt: readonly number[], { arch: { contextLength } }: Model): number {
  const room = contextLength - prompt.length;
  if (prompt.length > 0 && room >= 1) return room;
  throw new RmError(
    'INVALID_ARGUMENT',
    `the prompt has ${prompt.length} tokens, but the model's context is ${contextLength}`,
    'Use a prompt of at least one token that leaves room for new ones.',
  );
}

/**
 * Continues sequences token by token and keeps the KV cache between them. If a sequence begins like the previous one, as
 * the next turn of a conversation does, only its new tokens are computed.
 */
export class DecodingSession {
  readonly #model: Model;
  #decoder: Decoder | undefined;
  #reused = 0;

  constructor(model: Model) {
    checkArguments('DecodingSession', { model }, { model: aModel });
    this.#model = model;
  }

  /** Tokens of the last sequence that came from the cache. */
  get reused(): number {
    return this.#reused;
  }

  /**
   * Generates the tokens after `sequence`, each computed when it is requested. The caller may stop early. Run one generator
   * at a time: a session has one cache.
   *
   * @throws RmError INVALID_ARGUMENT for an empty sequence or one that leaves no room in the model's context,
   *   NOT_FINITE; the signal's reason once it is aborted.
   */
  async *continue(sequence: readonly number[], options: ContinueOptions): AsyncGenerator<number, void, void> {
    checkArguments('continue', { sequence, options }, { sequence: tokenIds, options: continueSettings });
    const { maxTokens, eosIds = [], signal } = options;
    const limit = Math.min(maxTokens, roomAfter(sequence, this.#model));
    const sampling = samplingOf(options);
    const random = tokenRandom(options.seed);
    this.#decoder ??= new Decoder(this.#model, sequence.length + limit);
    const decoder = this.#decoder;
    decoder.reserve(sequence.length + limit);
    this.#reused = decoder.keep(0, sequence);
    const tokens = [...sequence];
    for (let count = 0; count < limit; count++) {
      signal?.throwIfAborted();
      const [token] = await decoder.next(
        [{ place: 0, tokens, random: random() }],
        sampling,
        options.repeatPenalty,
      );
      if (eosIds.includes(token!)) return;
      yield token!;
      tokens.push(token!);
    }
  }

  /** Frees its tensors. */
  dispose(): void {
    this.#decoder?.dispose();
    this.#decoder = undefined;
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
