import { noJournal, RmError } from '../../engine/index.js';
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
  /** A role; "model" or "other model" in an evaluation; "METHOD, N removed" in a comparison. */
  readonly model: string;
  readonly text: string;
  readonly tokens: number;
  /** Share of its token 4-grams that repeat earlier ones; 0 for fewer than four tokens. */
  readonly repetition: number;
}

/** Greedy continuations of one prompt. */
export interface Sample {
  readonly prompt: string;
  /** Whether it went through the model's chat template. */
  readonly chat: boolean;
  readonly continuations: readonly Continuation[];
}

/** A sample of `model` in the form of the report. */
export const continuationOf = (
  model: string,
  { text, tokens, repeated4grams }: HealthSample,
): Continuation => ({ model, text, tokens, repetition: repeated4grams });

/** Number of built-in prompts, and most new tokens after each. */
export const SAMPLES = { prompts: 2, tokens: 48 };

/** Whether the chat template takes a prompt, and the context has room for it. */
async function canContinue(prompt: string, reader: TextReader, contextLength: number): Promise<boolean> {
  try {
    return (await promptTokens(prompt, reader)).length < contextLength;
  } catch (error) {
    if (error instanceof RmError && error.code === 'DATA_INVALID') return false;
    throw error;
  }
}

/**
 * Greedy continuations of built-in prompts by models with one tokenizer; prompts that their chat template refuses, or
 * their context has no room for, are left out.
 *
 * @throws RmError NOT_FINITE.
 */
export async function samplesOf(
  models: readonly (readonly [name: string, model: Model])[],
  reader: TextReader,
  { onProgress, signal, journal = noJournal }: RunHooks,
): Promise<Sample[]> {
  const { contextLength } = models[0]![1].arch;
  const prompts: string[] = [];
  for (const prompt of healthPrompts.slice(0, SAMPLES.prompts)) {
    if (await canContinue(prompt, reader, contextLength)) prompts.push(prompt);
  }
  if (prompts.length === 0) return [];
  const continuations: (readonly Continuation[])[] = [];
  for (const [name, model] of models) {
    const { samples } = await journal.step('samples', () =>
      generationHealth(model, reader, { prompts, tokens: SAMPLES.tokens, onProgress, signal }),
    );
    continuations.push(samples.map(sample => continuationOf(name, sample)));
  }
  return prompts.map((prompt, p) => ({
    prompt,
    chat: reader.chat.available,
    continuations: continuations.map(ofModel => ofModel[p]!),
  }));
}
