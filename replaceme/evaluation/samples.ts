import { noJournal } from '../../engine/index.js';
import {
  generationHealth,
  type HealthSample,
  healthPrompts,
  type Model,
  promptTokens,
  type TextReader,
} from '../../model/index.js';
import type { RunHooks } from '../run/runHooks.js';

/** A greedy continuation of a prompt. */
export interface Continuation {
  /** A role, "model" and "other model" in an evaluation, or "METHOD, N removed" in a comparison. */
  readonly model: string;
  readonly text: string;
  readonly tokens: number;
  /** Share of its 4-grams of tokens that occurred before in it; 0 where it has fewer than four tokens. */
  readonly repetition: number;
}

/** Greedy continuations of one prompt. */
export interface Sample {
  readonly prompt: string;
  /** Whether it went through the model's chat template. */
  readonly chat: boolean;
  readonly continuations: readonly Continuation[];
}

/** What `model` has written, as the report has it. */
export const continuationOf = (
  model: string,
  { text, tokens, repeated4grams }: HealthSample,
): Continuation => ({ model, text, tokens, repetition: repeated4grams });

/** How many of the built-in prompts, and new tokens of each at most. */
const PROMPTS = 2;
const TOKENS = 48;

/**
 * What models of one tokenizer write after built-in prompts that their context has room for, each taking the most
 * likely token every time.
 *
 * @throws RmError NOT_FINITE.
 */
export async function samplesOf(
  models: readonly (readonly [name: string, model: Model])[],
  reader: TextReader,
  { onProgress, signal, journal = noJournal }: RunHooks,
): Promise<Sample[]> {
  const { contextLength } = models[0]![1].arch;
  const prompts = healthPrompts
    .slice(0, PROMPTS)
    .filter(prompt => promptTokens(prompt, reader).length < contextLength);
  if (prompts.length === 0) return [];
  const written: (readonly Continuation[])[] = [];
  for (const [name, model] of models) {
    const { samples } = await journal.step('samples', () =>
      generationHealth(model, reader, { prompts, tokens: TOKENS, onProgress, signal }),
    );
    written.push(samples.map(sample => continuationOf(name, sample)));
  }
  return prompts.map((prompt, p) => ({
    prompt,
    chat: reader.chat.available,
    continuations: written.map(texts => texts[p]!),
  }));
}
