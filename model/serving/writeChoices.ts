import type { DecodingSession } from '../generation/decodingSession.js';
import type { SamplingOptions } from '../generation/sampler.js';
import { type WrittenText, writeText } from '../generation/writtenText.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { Asked } from './requests.js';

/** One of the texts that a request asks for. */
export interface Choice {
  readonly index: number;
  readonly text: string;
  readonly finishReason: 'stop' | 'length';
}

/** Counts of tokens; of several texts for one prompt it counts once. */
export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

/** Tells a client what a text has got; the text waits for it. */
export interface ChoiceReader {
  piece(index: number, text: string): Promise<void> | void;
  end(choice: Choice): Promise<void> | void;
}

/** Writes all texts of a request beside each other, and beside those of other requests in the session. */
export async function writeChoices(
  session: DecodingSession,
  tokenizer: Tokenizer,
  prompts: readonly (readonly number[])[],
  { n, stop, seed, ignoreEos, maxTokens = Number.MAX_SAFE_INTEGER }: Asked,
  { sampling, signal, reader }: { sampling: SamplingOptions; signal: AbortSignal; reader: ChoiceReader },
): Promise<Usage> {
  const written: WrittenText[] = prompts.flatMap(prompt =>
    Array.from({ length: n }, (_, at) =>
      writeText(session, tokenizer, prompt, {
        ...{ ...sampling, seed: seed + at, maxTokens, stop, signal },
        ...(ignoreEos && { eosIds: [] }),
      }),
    ),
  );
  await Promise.all(
    written.map(async (text, index) => {
      let whole = '';
      for await (const piece of text) {
        whole += piece;
        if (piece !== '') await reader.piece(index, piece);
      }
      await reader.end({ index, text: whole, finishReason: text.ended ?? 'length' });
    }),
  );
  const sum = (of: (text: WrittenText) => number, all: readonly WrittenText[] = written) =>
    all.reduce((total, text) => total + of(text), 0);
  const firsts = written.filter((_, index) => index % n === 0);
  const prompted = sum(({ prompt }) => prompt.tokens, firsts);
  const completed = sum(({ ids }) => ids.length);
  return {
    prompt_tokens: prompted,
    completion_tokens: completed,
    total_tokens: prompted + completed,
    prompt_tokens_details: { cached_tokens: sum(({ prompt }) => prompt.reused, firsts) },
  };
}
