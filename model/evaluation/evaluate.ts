import {
  downloadF32,
  downloadU32,
  ensure,
  type Journal,
  liveSums,
  noJournal,
  type Progress,
  RmError,
  Scope,
  type Tensor,
  tensorFrom,
} from '../../engine/index.js';
import { compareDistributions, logLikelihood, type Predictions } from '../../kernels/index.js';
import { Batch, defaultBatchTokens, totalTokens } from '../transformer/batch.js';
import type { BatchTensors } from '../transformer/batchTensors.js';
import type { Model } from '../transformer/model.js';
import { finalHidden, finalNorm } from '../transformer/transformer.js';
import { forwardByLayer, waitingStates } from './forwardByLayer.js';
import { ReferenceStates, scoredGroups } from './referenceStates.js';

/** Settings of `evaluate`. */
export interface EvaluateOptions {
  /**
   * Reference model with the same vocabulary, or what it has made of these very sequences; adds KL divergence and top-1
   * agreement.
   */
  against?: Model | ReferenceStates;
  /** What a model with the same first layers has made of these very sequences: these layers need not run again. */
  prefix?: ReferenceStates;
  /** Most tokens of a packed batch; default by the kind of device. With ReferenceStates theirs count. */
  batchTokens?: number;
  /** Is shown -log p(next token) of every token of some sequences, one after the other; the last of each has none. */
  onLosses?: (sequences: readonly (readonly number[])[], nll: Float32Array) => void;
  onProgress?: Progress;
  signal?: AbortSignal;
  /** Keeps what is done, for another process to go on from; what `onLosses` changes must be kept there too. */
  journal?: Journal;
}

/** What `evaluate` measured. */
export interface Evaluation {
  /** Tokens read, and next-token predictions scored: every token of a sequence but its first is predicted. */
  tokens: number;
  predictions: number;
  /** Mean -log p(next token) in nats, and its exponential. */
  nll: number;
  perplexity: number;
  /** Of `against`, on the same predictions. */
  againstPerplexity?: number;
  /** Mean KL(against || model) in nats. */
  kl?: number;
  /** Share of predictions whose most likely token is the same in both models. */
  top1?: number;
}

/**
 * Perplexity of token sequences, each read from position 0 on its own; with `against`, KL divergence and top-1
 * agreement as well.
 *
 * @throws RmError DATA_INVALID when nothing can be predicted, NOT_FINITE when the model's output is not finite.
 */
export async function evaluate(
  model: Model,
  sequences: readonly (readonly number[])[],
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  const { journal = noJournal } = options;
  return await journal.step('evaluate', () => measure(model, sequences, options, journal));
}

async function measure(
  model: Model,
  sequences: readonly (readonly number[])[],
  options: EvaluateOptions,
  journal: Journal,
): Promise<Evaluation> {
  const { device } = model;
  const { against, onProgress, signal } = options;
  using _section = device.section('evaluate');
  const kept = options.prefix ?? (against instanceof ReferenceStates ? against : undefined);
  const reference = against instanceof ReferenceStates ? against.model : against;
  ensure(
    !reference || reference.arch.vocab === model.arch.vocab,
    `the models have vocabularies of ${model.arch.vocab} and ${reference?.arch.vocab} tokens`,
    'Compare models with the same tokenizer.',
  );
  ensure(
    !kept || kept.sequences === sequences,
    'the reference was made of other sequences',
    'Give the list that ReferenceStates.of was given.',
  );
  const groups =
    kept?.groups ?? scoredGroups(sequences, options.batchTokens ?? defaultBatchTokens(device, model.arch));
  const total = totalTokens(groups.flat());
  /** Of models whose layers are streamed: each goes through them once. */
  const walked = new Map<Model, BatchTensors>();
  const held: Disposable[] = [];
  for (const of of new Set([model, reference])) {
    if (!of?.isOffloaded || of === kept?.model) continue;
    const states = waitingStates(device);
    walked.set(of, states);
    held.push(await journal.track('states', states));
    await forwardByLayer(of, groups, states, options);
  }
  const sums = { nll: 0, againstNll: 0, kl: 0, same: 0, tokens: 0, predictions: 0 };
  held.push(await journal.track('sums', liveSums({}, sums)));
  const score = async (index: number) => {
    signal?.throwIfAborted();
    const group = groups[index]!;
    using batch = new Batch(device, group);
    // The target of a row is the token after it; a sequence's last row has none and is left out of the sums.
    const targets = Uint32Array.from(group.flatMap(sequence => [...sequence.slice(1), 0]));
    using targetTensor = tensorFrom(device, targets, [batch.tokens], 'targets');
    const scored = group.flatMap(sequence => sequence.map((_, i) => i < sequence.length - 1));
    const hiddenOf = async (of: Model) => {
      using scope = new Scope(device);
      const states = await walked.get(of)?.get(index, scope);
      if (states) return finalNorm(of, states);
      return (await kept?.finalHidden(of, index, batch)) ?? finalHidden(of, batch);
    };
    using hidden = await hiddenOf(model);
    using referred = reference && (await hiddenOf(reference));
    const other = referred && predictionsOf(reference!, referred);
    const nll = await addScores(sums, predictionsOf(model, hidden), other, targetTensor, scored);
    options.onLosses?.(group, nll);
    sums.tokens += batch.tokens;
    sums.predictions += batch.tokens - group.length;
  };
  await journal.forEach('texts', groups.length, score, () =>
    onProgress?.({ phase: 'evaluate', done: sums.tokens, total, unit: 'tokens' }),
  );
  for (const state of held) state[Symbol.dispose]();
  const { tokens, predictions } = sums;
  const nll = sums.nll / predictions;
  if (!Number.isFinite(nll)) {
    throw new RmError(
      'NOT_FINITE',
      'the model assigns no finite likelihood to the text',
      'The model is damaged: look at its weights, or at how it was made.',
    );
  }
  return {
    tokens,
    predictions,
    nll,
    perplexity: Math.exp(nll),
    ...(against && {
      againstPerplexity: Math.exp(sums.againstNll / predictions),
      kl: sums.kl / predictions,
      top1: sums.same / predictions,
    }),
  };
}

/** Hidden states after the final norm with what makes logits of them. */
const predictionsOf = ({ weights, arch }: Model, hidden: Tensor): Predictions => ({
  hidden,
  head: weights.lmHead,
  form: arch.logitForm,
});

/** Adds the sums of a batch; returns -log p(next token) of `predictions` by token. */
async function addScores(
  sums: { nll: number; againstNll: number; kl: number; same: number },
  predictions: Predictions,
  against: Predictions | undefined,
  targets: Tensor,
  scored: readonly boolean[],
): Promise<Float32Array> {
  const { device } = targets;
  using scope = new Scope(device);
  const perToken = (dtype: 'f32' | 'u32' = 'f32') => scope.tensor([targets.size], dtype, 'scores');
  const sum = (values: ArrayLike<number>) =>
    scored.reduce((total, use, t) => (use ? total + values[t]! : total), 0);
  if (!against) {
    const logp = perToken();
    const { hidden, head, form } = predictions;
    logLikelihood(device.recorder, hidden, head, targets, logp, form && { form });
    const nll = (await downloadF32(logp)).map(value => -value);
    sums.nll += sum(nll);
    return nll;
  }
  const out = {
    nllA: perToken(),
    nllB: perToken(),
    kl: perToken(),
    topA: perToken('u32'),
    topB: perToken('u32'),
  };
  compareDistributions(device.recorder, against, predictions, targets, out);
  sums.againstNll += sum(await downloadF32(out.nllA));
  const nll = await downloadF32(out.nllB);
  sums.nll += sum(nll);
  sums.kl += sum(await downloadF32(out.kl));
  const [topA, topB] = [await downloadU32(out.topA), await downloadU32(out.topB)];
  sums.same += sum(topA.map((token, t) => (token === topB[t] ? 1 : 0)));
  return nll;
}
