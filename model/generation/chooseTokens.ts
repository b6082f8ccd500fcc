import { downloadF32, downloadU32, ensure, Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { argmax, NOT_FINITE, type SampleOptions, sampleTokens } from '../../kernels/index.js';
import type { Model } from '../transformer/model.js';
import { notFiniteLogits, penalizeRepeats } from './sampler.js';

/**
 * Chooses the next token of a text on the host.
 *
 * @param logits of every token of the vocabulary, after the repeat penalty; the function may change them.
 * @param tokens of the text so far, prompt included.
 */
export type Sample = (logits: Float32Array, tokens: readonly number[]) => number | Promise<number>;

/** How the next token of one text is chosen. */
export interface Choice {
  /** Undefined: the most likely token. */
  readonly sampling: SampleOptions | undefined;
  readonly repeatPenalty: number;
  readonly sample: Sample | undefined;
}

/** A text whose next token is chosen. */
export interface Choosing extends Choice {
  readonly tokens: readonly number[];
}

/** A chosen token, or why this text has none. */
export type Chosen = { readonly token: number } | { readonly error: unknown };

/** Rows of texts whose tokens one kernel chooses. */
function groupsOf(texts: readonly Choosing[], rows: readonly number[]): number[][] {
  const groups = new Map<string, number[]>();
  for (const row of rows) {
    const key = JSON.stringify(texts[row]!.sampling ?? null);
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()];
}

/** The tensor itself for all of its rows, else a copy of these. */
function gathered(scope: Scope, tensor: Tensor, rows: readonly number[]): Tensor {
  if (rows.length === tensor.shape[0]) return tensor;
  const own = scope.tensor([rows.length, ...tensor.shape.slice(1)], tensor.dtype, tensor.label);
  for (const [to, row] of rows.entries()) scope.device.recorder.copy(tensor.rows(row, 1), own.rows(to, 1));
  return own;
}

/**
 * Chooses a token by each row of logits [texts, vocab], which it may change. A failure of one text, such as logits that are
 * not finite, is that text's alone. One download; with repeat penalties or `sample` hooks the logits of those texts go to
 * the host first.
 *
 * @param randoms a random u32 for each text.
 */
export async function chooseTokens(
  { device }: Model,
  logits: Tensor,
  randoms: Tensor,
  texts: readonly Choosing[],
): Promise<Chosen[]> {
  using scope = new Scope(device);
  const onHost = [...texts.keys()].filter(row => texts[row]!.repeatPenalty !== 1 || texts[row]!.sample);
  const chosen: Chosen[] = [];
  if (onHost.length > 0) {
    const values = await downloadF32(gathered(scope, logits, onHost));
    for (const [at, row] of onHost.entries()) {
      const { tokens, repeatPenalty, sample } = texts[row]!;
      const own = values.subarray(at * logits.columns, (at + 1) * logits.columns);
      if (repeatPenalty !== 1) penalizeRepeats(own, tokens, repeatPenalty);
      if (sample) chosen[row] = await sampled(own, tokens, sample);
      else device.recorder.copy(scope.own(tensorFrom(device, own, [1, own.length])), logits.rows(row, 1));
    }
  }
  const groups = groupsOf(
    texts,
    [...texts.keys()].filter(row => !texts[row]!.sample),
  );
  const tokens = await onDevice(scope, logits, randoms, texts, groups);
  for (const [at, row] of groups.flat().entries()) {
    const token = tokens[at]!;
    chosen[row] = token === NOT_FINITE ? { error: notFiniteLogits() } : { token };
  }
  return chosen;
}

/** The tokens of all groups, in their order. */
async function onDevice(
  scope: Scope,
  logits: Tensor,
  randoms: Tensor,
  texts: readonly Choosing[],
  groups: readonly (readonly number[])[],
): Promise<Uint32Array | readonly number[]> {
  if (groups.length === 0) return [];
  const { recorder } = scope.device;
  const all = scope.tensor([groups.flat().length], 'u32', 'tokens');
  let start = 0;
  for (const rows of groups) {
    const own = gathered(scope, logits, rows);
    const chosen = groups.length === 1 ? all : scope.tensor([rows.length], 'u32', 'tokens');
    const { sampling } = texts[rows[0]!]!;
    if (sampling) sampleTokens(recorder, own, gathered(scope, randoms, rows), chosen, sampling);
    else argmax(recorder, own, chosen);
    if (chosen !== all) recorder.copy(chosen, all.rows(start, rows.length));
    start += rows.length;
  }
  return await downloadU32(all);
}

/** What the hook chooses. */
async function sampled(logits: Float32Array, tokens: readonly number[], sample: Sample): Promise<Chosen> {
  if (!logits.every(Number.isFinite)) return { error: notFiniteLogits() };
  const vocab = logits.length;
  try {
    const token = await sample(logits, tokens);
    ensure(
      Number.isInteger(token) && token >= 0 && token < vocab,
      `\`sample\` returns ${String(token)}`,
      `It returns the id of a token, a whole number from 0 to ${vocab - 1}.`,
    );
    return { token };
  } catch (error) {
    return { error };
  }
}
