import {
  type Device,
  downloadF32,
  downloadU32,
  RmError,
  Scope,
  type Tensor,
  tensorFrom,
} from '../engine/index.js';
import type { Progress } from '../engine/progress.js';
import { compareDistributions } from '../kernels/compareDistributions.js';
import { logLikelihood } from '../kernels/logLikelihood.js';
import type { Architecture } from './architecture.js';
import { Batch, groupSequences, totalTokens } from './batch.js';
import type { Model } from './model.js';
import { finalNorm, forward } from './transformer.js';

export interface EvaluateOptions {
  /** Reference model with the same vocabulary; adds KL divergence and top-1 agreement. */
  against?: Model;
  /** Most tokens of a packed batch; default by the kind of device. */
  batchTokens?: number;
  onProgress?: Progress;
  signal?: AbortSignal;
}

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

/** Bytes of the widest activation that every device can bind. */
const WIDEST = 128 << 20;

/** Tokens of a packed batch that keep a device of this kind busy without large activations. */
export function defaultBatchTokens(device: Device, arch: Architecture): number {
  const columns = Math.max(arch.intermediate, arch.hidden, arch.heads * arch.headDim);
  return Math.min(device.info.kind === 'software' ? 1024 : 8192, Math.floor(WIDEST / (4 * columns)));
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
  const { device } = model;
  const { against, onProgress, signal } = options;
  using _section = device.section('evaluate');
  if (against && against.arch.vocab !== model.arch.vocab) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `the models have vocabularies of ${model.arch.vocab} and ${against.arch.vocab} tokens`,
      'Compare models with the same tokenizer.',
    );
  }
  const usable = sequences.filter(sequence => sequence.length > 1);
  const total = totalTokens(usable);
  if (total === 0) {
    throw new RmError('DATA_INVALID', 'no sequence has two tokens or more', 'Evaluate on longer text.');
  }
  const sums = { nll: 0, againstNll: 0, kl: 0, same: 0 };
  let tokens = 0;
  let predictions = 0;
  for (const group of groupSequences(usable, options.batchTokens ?? defaultBatchTokens(device, model.arch))) {
    signal?.throwIfAborted();
    using batch = new Batch(device, group);
    // The target of a row is the token after it; a sequence's last row has none and is left out of the sums.
    const targets = Uint32Array.from(group.flatMap(sequence => [...sequence.slice(1), 0]));
    using targetTensor = tensorFrom(device, targets, [batch.tokens], 'targets');
    const scored = group.flatMap(sequence => sequence.map((_, i) => i < sequence.length - 1));
    await addScores(sums, model, against, batch, targetTensor, scored);
    tokens += batch.tokens;
    predictions += batch.tokens - group.length;
    onProgress?.({ phase: 'evaluate', done: tokens, total, unit: 'tokens' });
  }
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

/** Hidden states of the batch after the final norm. The caller disposes them. */
function finalHidden(model: Model, batch: Batch): Tensor {
  using hidden = forward(model, batch);
  return finalNorm(model, hidden);
}

async function addScores(
  sums: { nll: number; againstNll: number; kl: number; same: number },
  model: Model,
  against: Model | undefined,
  batch: Batch,
  targets: Tensor,
  scored: readonly boolean[],
): Promise<void> {
  const { device } = model;
  using scope = new Scope(device);
  const hidden = scope.own(finalHidden(model, batch));
  const perToken = (dtype: 'f32' | 'u32' = 'f32') => scope.tensor([batch.tokens], dtype, 'scores');
  const sum = (values: ArrayLike<number>) =>
    scored.reduce((total, use, t) => (use ? total + values[t]! : total), 0);
  if (!against) {
    const logp = perToken();
    logLikelihood(device.recorder, hidden, model.weights.lmHead, targets, logp);
    sums.nll -= sum(await downloadF32(logp));
    return;
  }
  const reference = scope.own(finalHidden(against, batch));
  const out = {
    nllA: perToken(),
    nllB: perToken(),
    kl: perToken(),
    topA: perToken('u32'),
    topB: perToken('u32'),
  };
  compareDistributions(
    device.recorder,
    { hidden: reference, head: against.weights.lmHead },
    { hidden, head: model.weights.lmHead },
    targets,
    out,
  );
  sums.againstNll += sum(await downloadF32(out.nllA));
  sums.nll += sum(await downloadF32(out.nllB));
  sums.kl += sum(await downloadF32(out.kl));
  const [topA, topB] = [await downloadU32(out.topA), await downloadU32(out.topB)];
  sums.same += sum(topA.map((token, t) => (token === topB[t] ? 1 : 0)));
}
