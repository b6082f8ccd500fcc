import type { Model } from '../transformer/model.js';
import { type Continued, Decoder } from './decoder.js';
import { roomAfter } from './decodingSession.js';
import { type SamplingOptions, samplingOf, tokenRandom } from './sampler.js';

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
  /** Called after each step with the number of tokens that it gave. */
  readonly onTokens?: (count: number) => void;
  /** Called after each step with the new tokens so far of each text that goes on: whether it ends with them. */
  readonly ended?: (texts: readonly (readonly number[])[]) => Promise<readonly boolean[]>;
}

/** Tokens for which the cache has room at first. */
const FIRST_ROOM = 64;

interface Writing extends Continued {
  readonly tokens: number[];
  readonly prompt: number;
  readonly limit: number;
  readonly draw: () => number;
  random: number;
}

/**
 * Continues all prompts at the same time, a token each per step, with a KV cache that has a place for each. Equal prompts
 * are computed once.
 *
 * @returns the new tokens of each prompt.
 * @throws RmError INVALID_ARGUMENT for an empty prompt or one that leaves no room in the model's context; NOT_FINITE.
 */
export async function generateTogether(
  model: Model,
  requests: readonly TogetherRequest[],
  options: TogetherOptions = {},
): Promise<number[][]> {
  const { eosIds = [], signal, onTokens, ended } = options;
  const sampling = samplingOf(options);
  const all = requests.map(({ prompt, maxTokens, seed }, place): Writing => {
    const limit = Math.min(maxTokens, roomAfter(prompt, model));
    return { place, tokens: [...prompt], prompt: prompt.length, limit, draw: tokenRandom(seed), random: 0 };
  });
  const longest = Math.max(0, ...all.map(({ prompt }) => prompt));
  let open = all.filter(({ limit }) => limit > 0);
  if (open.length === 0) return all.map(() => []);
  using decoder = new Decoder(model, Math.min(model.arch.contextLength, longest + FIRST_ROOM), all.length);
  await decoder.fill(open);
  while (open.length > 0) {
    signal?.throwIfAborted();
    for (const writing of open) writing.random = writing.draw();
    decoder.reserve(Math.max(...open.map(({ tokens }) => tokens.length + 1)));
    const tokens = await decoder.next(open, sampling);
    open = open.filter((writing, i) => {
      if (eosIds.includes(tokens[i]!)) return false;
      writing.tokens.push(tokens[i]!);
      return writing.tokens.length < writing.prompt + writing.limit;
    });
    if (ended && open.length > 0) {
      const ends = await ended(open.map(({ tokens: all, prompt }) => all.slice(prompt)));
      open = open.filter((_, i) => !ends[i]);
    }
    onTokens?.(tokens.length);
  }
  return all.map(({ tokens, prompt }) => tokens.slice(prompt));
}
