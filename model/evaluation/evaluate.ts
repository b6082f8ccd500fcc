import {
  asF32,
  asU32,
  checkArguments,
  ensure,
  type Journal,
  LaterDownloads,
  liveSums,
  noJournal,
  OneAhead,
  objectWith,
  optional,
  type Progress,
  RmError,
  Scope,
  type Tensor,
  tensorFrom,
  whole,
} from '../../engine/index.js';
import { compareDistributions, logLikelihood, type Predictions } from '../../kernels/index.js';
import {
  aModel,
  maybeFunction,
  referenceStates,
  runForms,
  settingsAmong,
  tokenLists,
} from '../arguments/forms.js';
import { Batch, defaultBatchTokens, totalTokens } from '../transformer/batch.js';
import type { BatchTensors } from '../transformer/batchTensors.js';
import { predictionsOf } from '../transformer/headLogits.js';
import type { Model } from '../transformer/model.js';
import { finalHidden, finalNorm } from '../transformer/transformer.js';
import { createHostStates, forwardByLayer } from './forwardByLayer.js';
import { ReferenceStates, scoredGroups } from './referenceStates.js';

/** Settings of `evaluate`. */
export interface EvaluateOptions {
  /**
   * Reference model with the same vocabulary, or its states for these same sequences; adds KL divergence and top-1
   * agreement.
   */
  against?: Model | ReferenceStates;
  /** States of a model with the same first layers for these same sequences: those layers do not run again. */
  prefix?: ReferenceStates;
  /** Most tokens of a packed batch (default: by the kind of device). Ignored with ReferenceStates, which have their own. */
  batchTokens?: number;
  /** Receives -log p(next token) of every token of some sequences, concatenated; the last token of each has none. */
  onLosses?: (sequences: readonly (readonly number[])[], nll: Float32Array) => void;
  /** The same of `against`. */
  onAgainstLosses?: (sequences: readonly (readonly number[])[], nll: Float32Array) => void;
  onProgress?: Progress;
  signal?: AbortSignal;
  /** Saves progress, so that another process can resume; also track there whatever receives losses. */
  journal?: Journal;
}

/** Result of `evaluate`. */
export interface Evaluation {
  /** Tokens read, and next-token predictions scored: one for every token of a sequence but its first. */
  tokens: number;
  predictions: number;
  /** Mean -log p(next token) in nats, and its exponential. */
  nll: number;
  perplexity: number;
  /** Perplexity of `against` on the same predictions. */
  againstPerplexity?: number;
  /** Mean KL(against || model) in nats. */
  kl?: number;
  /** Share of predictions on which both models agree about the most likely token. */
  top1?: number;
}

const evaluateSettings = settingsAmong<EvaluateOptions>({
  ...runForms,
  against: optional((value, place) => aModel(value, place) && referenceStates(value, place)),
  prefix: optional(referenceStates),
  batchTokens: optional(whole(1)),
  onLosses: maybeFunction,
  onAgainstLosses: maybeFunction,
  journal: optional(objectWith('a journal', 'step', 'track')),
});

/**
 * Measures a model's perplexity on token sequences, each read on its own from position 0; with `against`, also KL
 * divergence and top-1 agreement.
 *
 * @throws RmError DATA_INVALID if no sequence has two or more tokens, NOT_FINITE if the model's output is not finite.
 */
export async function evaluate(
  model: Model,
  sequences: readonly (readonly number[])[],
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  checkArguments(
    'evaluate',
    { model, sequences, options },
    { model: aModel, sequences: tokenLists, options: evaluateSettings },
  );
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
  const cached = options.prefix ?? (against instanceof ReferenceStates ? against : undefined);
  const reference = against instanceof ReferenceStates ? against.model : against;
  checkInputs(model, reference, sequences, cached);
  const groups =
    cached?.groups ?? scoredGroups(sequences, options.batchTokens ?? defaultBatchTokens(device, model.arch));
  /** Final states of offloaded models, computed layer by layer. */
  const offloaded = new Map<Model, BatchTensors>();
  const tracked: Disposable[] = [];
  for (const each of new Set([model, reference])) {
    if (!each?.isOffloaded || each === cached?.model) continue;
    const states = createHostStates(device);
    offloaded.set(each, states);
    tracked.push(await journal.track('states', states));
    await forwardByLayer(each, groups.length, i => new Batch(device, groups[i]!), states, options);
  }
  const sums: Sums = { nll: 0, againstNll: 0, kl: 0, same: 0, tokens: 0, predictions: 0 };
  using later = new LaterDownloads(device);
  const ahead = new OneAhead(device);
  tracked.push(await journal.track('sums', later.before(liveSums({}, sums))));
  const score = async (index: number) => {
    signal?.throwIfAborted();
    device.profiler?.count('batches');
    const group = groups[index]!;
    using batch = new Batch(device, group);
    // The target of a row is the token after it; a sequence's last row has none and is left out of the sums.
    const targets = Uint32Array.from(group.flatMap(sequence => [...sequence.slice(1), 0]));
    using targetTensor = tensorFrom(device, targets, [batch.tokens], 'targets');
    const scored = group.flatMap(sequence => sequence.map((_, i) => i < sequence.length - 1));
    const hiddenOf = async (each: Model) => {
      using scope = new Scope(device);
      const states = await offloaded.get(each)?.get(index, scope);
      if (states) return finalNorm(each, states);
      return (await cached?.finalHidden(each, index, batch)) ?? finalHidden(each, batch);
    };
    using hidden = await hiddenOf(model);
    using referenceHidden = reference && (await hiddenOf(reference));
    const other = referenceHidden && predictionsOf(reference!, referenceHidden);
    await addScores(later, sums, predictionsOf(model, hidden), other, targetTensor, scored, losses => {
      options.onLosses?.(group, losses.nll);
      if (losses.against) options.onAgainstLosses?.(group, losses.against);
    });
    await ahead.turn();
  };
  const ends: number[] = [];
  for (const group of groups) ends.push((ends.at(-1) ?? 0) + totalTokens(group));
  await journal.forEach('texts', groups.length, score, index =>
    onProgress?.({ phase: 'evaluate', done: ends[index]!, total: ends.at(-1)!, unit: 'tokens' }),
  );
  await later.arrive();
  for (const state of tracked) state[Symbol.dispose]();
  return resultOf(sums, against !== undefined);
}

/** Sums over all batches. */
interface Sums {
  nll: number;
  againstNll: number;
  kl: number;
  same: number;
  tokens: number;
  predictions: number;
}

function checkInputs(
  model: Model,
  reference: Model | undefined,
  sequences: readonly (readonly number[])[],
  cached: ReferenceStates | undefined,
): void {
  ensure(
    !reference || reference.arch.vocab === model.arch.vocab,
    `the models have vocabularies of ${model.arch.vocab} and ${reference?.arch.vocab} tokens`,
    'Compare models with the same tokenizer.',
  );
  ensure(
    !cached || cached.sequences === sequences,
    'the reference states belong to other sequences',
    'Pass the same list of sequences as to ReferenceStates.of.',
  );
}

function resultOf(sums: Sums, compared: boolean): Evaluation {
  const { tokens, predictions } = sums;
  const nll = sums.nll / predictions;
  const against = compared ? sums.againstNll / predictions : 0;
  if (!Number.isFinite(nll + against)) {
    const which = Number.isFinite(nll) ? 'the model that it is compared with' : 'the model';
    throw new RmError(
      'NOT_FINITE',
      `${which} assigns no finite likelihood to the text`,
      'The model is damaged: check its weights and how it was made.',
    );
  }
  return {
    tokens,
    predictions,
    nll,
    perplexity: Math.exp(nll),
    ...(compared && {
      againstPerplexity: Math.exp(against),
      kl: sums.kl / predictions,
      top1: sums.same / predictions,
    }),
  };
}

/**
 * Adds a batch's scores to the sums when they arrive.
 *
 * @param scored of every row, whether it predicts a token.
 * @param onLosses receives -log p(next token) per row, of `predictions` and of `against`.
 */
async function addScores(
  later: LaterDownloads,
  sums: Sums,
  predictions: Predictions,
  against: Predictions | undefined,
  targets: Tensor,
  scored: readonly boolean[],
  onLosses: (losses: { readonly nll: Float32Array; readonly against?: Float32Array }) => void,
): Promise<void> {
  const { device } = targets;
  using scope = new Scope(device);
  const perToken = (dtype: 'f32' | 'u32' = 'f32') => scope.tensor([targets.size], dtype, 'scores');
  const sum = (values: ArrayLike<number>) =>
    scored.reduce((total, use, t) => (use ? total + values[t]! : total), 0);
  const add = (losses: Parameters<typeof onLosses>[0]) => {
    sums.nll += sum(losses.nll);
    sums.tokens += scored.length;
    sums.predictions += scored.filter(Boolean).length;
    onLosses(losses);
  };
  if (!against) {
    const logp = perToken();
    const { hidden, head, ...options } = predictions;
    logLikelihood(device.recorder, hidden, head, targets, logp, options);
    await later.readF32([scope.release(logp)], ([values]) => add({ nll: values!.map(value => -value) }));
    return;
  }
  const out = {
    nllA: perToken(),
    nllB: perToken(),
    kl: perToken(),
    topA: perToken('u32'),
    topB: perToken('u32'),
  };
  compareDistributions(device.recorder, against, predictions, targets, out);
  const { nllA, nllB, kl, topA, topB } = out;
  const tensors = [nllA, nllB, kl, topA, topB];
  for (const tensor of tensors) scope.release(tensor);
  await later.read(tensors, bytes => {
    const [ofA, ofB, divergence] = bytes.slice(0, 3).map(asF32);
    const [mostA, mostB] = bytes.slice(3).map(asU32);
    sums.againstNll += sum(ofA!);
    sums.kl += sum(divergence!);
    sums.same += sum(mostA!.map((token, t) => (token === mostB![t] ? 1 : 0)));
    add({ nll: ofB!, against: ofA! });
  });
}
