import type { Model } from '../transformer/model.js';
import { DecodingSession } from './decodingSession.js';
import type { SamplingOptions } from './sampler.js';

/** A prompt that is continued beside others. */
export interface TogetherRequest {
  readonly prompt: readonly number[];
  /** Most new tokens. */
  readonly maxTokens: number;
  readonly seed: number;
}

/** Settings of `generateTogether`. */
export interface TogetherOptions extends Omit<SamplingOptions, 'seed'> {
  /** Tokens that end a text; the ending token is not returned. */
  readonly eosIds?: readonly number[];
  readonly signal?: AbortSignal | undefined;
  /** Called for each new token. */
  readonly onToken?: () => void;
  /** Called when a text has ended. */
  readonly onText?: () => void;
  /** Receives all new tokens of a text after each one; true ends the text with it. */
  readonly ended?: (tokens: readonly number[]) => boolean | Promise<boolean>;
}

/**
 * Continues all prompts in one session of their own, so that the same prompts and settings go through the same steps.
 *
 * @returns the new tokens of each prompt.
 * @throws RmError INVALID_ARGUMENT for an empty prompt or one that leaves no room in the model's context; NOT_FINITE.
 */
export async function generateTogether(
  model: Model,
  requests: readonly TogetherRequest[],
  { onToken, onText, signal, ...options }: TogetherOptions = {},
): Promise<number[][]> {
  using session = new DecodingSession(model, { texts: Math.max(1, requests.length) });
  const texts = requests.map(({ prompt, maxTokens, seed }) =>
    session.continue(prompt, { ...options, maxTokens, seed, ...(signal && { signal }) }),
  );
  return await Promise.all(
    texts.map(async text => {
      const tokens: number[] = [];
      for await (const token of text) {
        tokens.push(token);
        onToken?.();
      }
      onText?.();
      return tokens;
    }),
  );
}
