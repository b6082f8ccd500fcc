import { RmError } from '../../engine/index.js';
import { generateTogether } from '../generation/generateTogether.js';
import { placesFor } from '../generation/placesFor.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { Model } from '../transformer/model.js';
import type { GenerationRules } from './generationRules.js';
import { textKey } from './requestCache.js';
import type { ScoreOptions } from './scoreRequests.js';

/** A prompt and the row that it comes from, for messages. */
export interface RowContext {
  readonly context: string;
  readonly where: string;
}

/** What the model wrote. */
export interface Texts {
  /** One per context, in order, without the text that ended it. */
  readonly texts: readonly string[];
  /** Distinct contexts, and how many of them the cache answered. */
  readonly requests: number;
  readonly cached: number;
}

/** A prompt that is to be continued. */
interface Open {
  readonly key: string;
  readonly prompt: readonly number[];
}

/**
 * Continues contexts greedily up to the first of the task's stop strings, as lm-eval does: many at a time, the longest
 * first. A context that leaves too little room loses tokens on the left. Batches depend on the contexts alone, so that a
 * resumed run computes what an uninterrupted one would.
 *
 * @throws RmError DATA_INVALID for an empty context, INVALID_ARGUMENT for a model whose context has no room for the most
 *   new tokens, NOT_FINITE.
 */
export async function generateAnswers(
  model: Model,
  tokenizer: Tokenizer,
  contexts: readonly RowContext[],
  { until, maxTokens }: GenerationRules,
  options: Omit<ScoreOptions, 'batchTokens'> = {},
): Promise<Texts> {
  const { cache, onProgress, signal, phase = 'generate' } = options;
  using _section = model.device.section('generate');
  const { eos_token: eos } = tokenizer.specialTokens;
  const stops = [...until, ...(eos && !until.includes(eos) ? [eos] : [])];
  const room = model.arch.contextLength - maxTokens;
  if (room <= 0) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `answers of ${maxTokens} tokens leave no room for a prompt: the model's context is ${model.arch.contextLength}`,
      'State fewer as max_gen_toks under generation_kwargs of the task file.',
    );
  }
  const prompts = (await encodeContexts(tokenizer, contexts)).map(ids => ids.slice(-room));
  const keys = prompts.map(prompt => textKey(prompt, stops, maxTokens));
  const distinct = [...new Map(keys.map((key, i) => [key, { key, prompt: prompts[i]! }])).values()];
  const answers = new Map<string, string>();
  for (const { key } of distinct) {
    const answer = cache?.getText(key);
    if (answer !== undefined) answers.set(key, answer);
  }
  const cached = answers.size;
  for (const batch of batches(
    distinct,
    placesFor(model, Math.max(...prompts.map(({ length }) => length)) + maxTokens),
  )) {
    if (batch.every(({ key }) => answers.has(key))) continue;
    let ended = -batch.filter(({ key }) => answers.has(key)).length;
    const progress = () =>
      onProgress?.({
        ...{ phase, total: distinct.length, unit: 'requests' },
        done: answers.size + Math.max(0, ended),
      });
    const written = await generateTogether(
      model,
      batch.map(({ prompt }) => ({ prompt, maxTokens, seed: 0 })),
      {
        ...{ eosIds: tokenizer.eosIds, signal, ended: endedBy(tokenizer, stops), onToken: progress },
        onText: () => ended++,
      },
    );
    const texts = await tokenizer.decodeBatch(written, { skipSpecialTokens: true });
    const found = batch.map(({ key }, i) => [key, cutAt(texts[i]!, stops)] as const);
    cache?.addTexts(found);
    for (const [key, text] of found) answers.set(key, text);
    ended = 0;
    progress();
  }
  return { texts: keys.map(key => answers.get(key)!), requests: distinct.length, cached };
}

/** As lm-eval encodes them: a text that begins with BOS, as a chat template writes it, gets no second one. */
async function encodeContexts(tokenizer: Tokenizer, contexts: readonly RowContext[]): Promise<number[][]> {
  const { bos_token: bos } = tokenizer.specialTokens;
  const texts = contexts.map(({ context }) => context);
  const begins = (text: string) => bos !== undefined && text.startsWith(bos);
  const [plain, special] = [texts.filter(begins), texts.filter(text => !begins(text))];
  const plainIds = (await tokenizer.encodeBatch(plain, { addSpecialTokens: false }))[Symbol.iterator]();
  const specialIds = (await tokenizer.encodeBatch(special))[Symbol.iterator]();
  return contexts.map(({ context, where }) => {
    const ids = (begins(context) ? plainIds : specialIds).next().value as number[];
    if (ids.length > 0) return ids;
    throw new RmError(
      'DATA_INVALID',
      `${where}: its prompt has no token`,
      'Check the row: its text may be empty.',
    );
  });
}

function batches(requests: readonly Open[], places: number): Open[][] {
  const sorted = [...requests].sort((a, b) => b.prompt.length - a.prompt.length || (a.key < b.key ? -1 : 1));
  const groups: Open[][] = [];
  for (let first = 0; first < sorted.length; first += places)
    groups.push(sorted.slice(first, first + places));
  return groups;
}

/** Whether a text has a stop string, by its last tokens: each has a byte at least, but the first may lose a space. */
function endedBy(tokenizer: Tokenizer, stops: readonly string[]) {
  const longest = Math.max(0, ...stops.map(stop => Buffer.byteLength(stop)));
  return async (tokens: readonly number[]): Promise<boolean> => {
    const tail = await tokenizer.decode(tokens.slice(-longest - 1));
    return stops.some(stop => tail.includes(stop));
  };
}

const cutAt = (text: string, stops: readonly string[]): string =>
  stops.reduce((rest, stop) => rest.split(stop, 1)[0]!, text);
