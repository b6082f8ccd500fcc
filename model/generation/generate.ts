import { checkArguments } from '../../engine/index.js';
import { aModel, maybeFunction, settingsAmong, tokenIds } from '../arguments/forms.js';
import type { Model } from '../transformer/model.js';
import { type ContinueOptions, continueForms, DecodingSession } from './decodingSession.js';

/** Settings of `generate`. */
export interface GenerateOptions extends ContinueOptions {
  /** Receives every token as soon as it is chosen; the next one waits for it. */
  onToken?: (id: number) => unknown;
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
  checkArguments(
    'generate',
    { model, prompt, options },
    {
      model: aModel,
      prompt: tokenIds,
      options: settingsAmong<GenerateOptions>({ ...continueForms, onToken: maybeFunction }),
    },
  );
  const { onToken, ...rest } = options;
  using session = new DecodingSession(model);
  const generated: number[] = [];
  for await (const token of session.continue(prompt, rest)) {
    generated.push(token);
    await onToken?.(token);
  }
  return generated;
}
