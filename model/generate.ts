import { downloadF32, downloadU32, RmError, Scope } from '../engine/index.js';
import { argmax, NOT_FINITE } from '../kernels/argmax.js';
import { Batch } from './batch.js';
import { tokenLogits } from './headLogits.js';
import { KvCache } from './kvCache.js';
import type { Model } from './model.js';
import { createSampler, notFiniteLogits, type SamplingOptions } from './sampler.js';
import { finalNorm, forward } from './transformer.js';

export interface GenerateOptions extends SamplingOptions {
  /** New tokens at most. */
  maxTokens: number;
  /** Tokens that end the text; the ending token is not returned. */
  eosIds?: readonly number[];
  onToken?: (id: number) => void;
  signal?: AbortSignal;
}

/**
 * Continues a prompt token by token with a KV cache.
 *
 * @returns the new token ids, without the prompt.
 * @throws RmError INVALID_ARGUMENT for an empty prompt or one that leaves no room in the model's context.
 */
export async function generate(
  model: Model,
  prompt: readonly number[],
  options: GenerateOptions,
): Promise<number[]> {
  const { maxTokens, eosIds = [], onToken, signal } = options;
  const room = model.arch.contextLength - prompt.length;
  if (prompt.length === 0 || room < 1) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `the prompt has ${prompt.length} tokens, the model's context is ${model.arch.contextLength}`,
      'Use a prompt of at least one token that leaves room for new ones.',
    );
  }
  const limit = Math.min(maxTokens, room);
  const sample = createSampler(options);
  using cache = new KvCache(model.device, model.arch, prompt.length + limit);
  const generated: number[] = [];
  let next: readonly number[] = prompt;
  while (generated.length < limit) {
    signal?.throwIfAborted();
    const token = await nextToken(model, next, cache, options.temperature ? sample : undefined);
    if (eosIds.includes(token)) break;
    generated.push(token);
    onToken?.(token);
    next = [token];
  }
  return generated;
}

/**
 * The token after `tokens`, which are appended to the cache: the most likely one, found on the device, or the choice of
 * `sample`. One submit (long prompts: more) and one download.
 */
async function nextToken(
  model: Model,
  tokens: readonly number[],
  cache: KvCache,
  sample: ((logits: Float32Array) => number) | undefined,
): Promise<number> {
  const { device } = model;
  using _section = device.section(cache.length === 0 ? 'prompt' : 'tokens');
  using scope = new Scope(device);
  using batch = new Batch(device, [tokens], { past: cache.length });
  const hidden = scope.own(forward(model, batch, { cache, lastToken: true }));
  const logits = scope.own(tokenLogits(model, scope.own(finalNorm(model, hidden))));
  // Awaited here: returning the promise would dispose the tensors before they are read.
  if (sample) return sample(await downloadF32(logits));
  const best = scope.tensor([1], 'u32', 'token');
  argmax(device.recorder, logits, best);
  const [token = NOT_FINITE] = await downloadU32(best);
  if (token === NOT_FINITE) throw notFiniteLogits();
  return token;
}
