import { checkArguments, listOf, optional, type Progress, text, whole } from '../../engine/index.js';
import { aModel, aReader, runForms, settingsAmong } from '../arguments/forms.js';
import { encodeMessages } from '../text/encodeMessages.js';
import type { TextReader } from '../text/textReader.js';
import type { Model } from '../transformer/model.js';
import { generateTogether, type TogetherRequest } from './generateTogether.js';

/** Default prompts: a fact, a story, instructions, an explanation, a list, code. */
export const healthPrompts: readonly string[] = [
  'The capital of France is',
  'Once upon a time, in a small village by the sea, there lived',
  'To make a cup of tea, first',
  'The difference between weather and climate is',
  'A list of five animals and the sounds they make:',
  'def fibonacci(n):',
];

/** Settings of `generationHealth`. */
export interface HealthOptions {
  /** Prompts to continue (default: six that come with rm-engine). */
  prompts?: readonly string[] | undefined;
  /** Most new tokens per sample (default 128). */
  tokens?: number | undefined;
  onProgress?: Progress | undefined;
  signal?: AbortSignal | undefined;
}

/** How much a list of tokens repeats itself. */
export interface Repetition {
  /** Share of 4-grams that occurred before, 0 to 1; 0 for fewer than four tokens. */
  readonly repeated4grams: number;
  /** Distinct tokens and distinct bigrams as a share of all; 1 if there are none. */
  readonly distinct1: number;
  readonly distinct2: number;
  /** Tokens of the longest run that repeats one piece at least twice; 0 if there is none. */
  readonly longestLoop: number;
}

/** One generated sample. */
export interface HealthSample extends Repetition {
  readonly prompt: string;
  readonly text: string;
  readonly tokens: number;
  /** Whether the model ended the text by itself. */
  readonly ended: boolean;
}

/** Result of `generationHealth` over all samples: mean shares and the longest loop. */
export interface GenerationHealth extends Repetition {
  /** Samples that the model ended by itself. */
  readonly ended: number;
  readonly samples: readonly HealthSample[];
}

/** Encodes a prompt: as a message where the model has a chat template. */
export const promptTokens = (prompt: string, reader: TextReader): Promise<number[]> =>
  encodeMessages(reader, [{ role: 'user', content: prompt }]);

const healthSettings = settingsAmong<HealthOptions>({
  ...runForms,
  prompts: optional(listOf(text)),
  tokens: optional(whole(1)),
});

/**
 * Measures how much a model repeats itself when it continues a few prompts greedily, which classification scores do not
 * show. Renders prompts by the chat template if the model has one.
 *
 * @throws RmError INVALID_ARGUMENT for a prompt longer than the context, NOT_FINITE.
 */
export async function generationHealth(
  model: Model,
  reader: TextReader,
  options: HealthOptions = {},
): Promise<GenerationHealth> {
  checkArguments(
    'generationHealth',
    { model, reader, options },
    { model: aModel, reader: aReader, options: healthSettings },
  );
  const { prompts = healthPrompts, tokens: maxTokens = 128, onProgress, signal } = options;
  using _section = model.device.section('samples');
  const { tokenizer } = reader;
  const requests: TogetherRequest[] = [];
  for (const prompt of prompts) {
    requests.push({ prompt: await promptTokens(prompt, reader), maxTokens, seed: 0 });
  }
  const total = prompts.length * maxTokens;
  let done = 0;
  const tell = () => onProgress?.({ phase: 'samples', done, total, unit: 'tokens' });
  // Together: the layers of an offloaded model then arrive once for a token of every text.
  const texts = await generateTogether(model, requests, {
    eosIds: tokenizer.eosIds,
    onToken() {
      done++;
      tell();
    },
    signal,
  });
  done = total;
  tell();
  const samples: HealthSample[] = [];
  for (const [p, generated] of texts.entries()) {
    const room = Math.min(maxTokens, model.arch.contextLength - requests[p]!.prompt.length);
    samples.push({
      prompt: prompts[p]!,
      text: await tokenizer.decode(generated, { skipSpecialTokens: true }),
      tokens: generated.length,
      ended: generated.length < room,
      ...repetition(generated),
    });
  }
  const mean = (of: (sample: HealthSample) => number) =>
    samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length;
  return {
    repeated4grams: mean(sample => sample.repeated4grams),
    distinct1: mean(sample => sample.distinct1),
    distinct2: mean(sample => sample.distinct2),
    longestLoop: Math.max(...samples.map(sample => sample.longestLoop)),
    ended: samples.filter(sample => sample.ended).length,
    samples,
  };
}

/** Measures how much a list of tokens repeats itself. */
export function repetition(tokens: readonly number[]): Repetition {
  const distinct = (n: number) => {
    const count = tokens.length - n + 1;
    if (count < 1) return 1;
    return new Set(Array.from({ length: count }, (_, i) => tokens.slice(i, i + n).join(' '))).size / count;
  };
  return {
    repeated4grams: 1 - distinct(4),
    distinct1: distinct(1),
    distinct2: distinct(2),
    longestLoop: longestLoop(tokens),
  };
}

function longestLoop(tokens: readonly number[]): number {
  let longest = 0;
  for (let period = 1; 2 * period <= tokens.length; period++) {
    let equal = 0;
    for (let i = period; i < tokens.length; i++) {
      equal = tokens[i] === tokens[i - period] ? equal + 1 : 0;
      if (equal >= period) longest = Math.max(longest, equal + period);
    }
  }
  return longest;
}
