import { downloadF32, type Progress, RmError, Scope, tensorFrom } from '../../engine/index.js';
import { embedding, logLikelihood } from '../../kernels/index.js';
import { rotateAlike } from '../architecture/rope.js';
import { Batch, defaultBatchTokens } from '../transformer/batch.js';
import type { Model } from '../transformer/model.js';
import { finalNorm, forward } from '../transformer/transformer.js';
import type { TokenRequest } from './encodeRequest.js';
import { type Answer, type RequestCache, requestKey } from './requestCache.js';

/** How requests are scored. */
export interface ScoreOptions {
  /** Tokens computed at a time, at most; default by the kind of device. */
  batchTokens?: number | undefined;
  cache?: RequestCache | undefined;
  /** What progress is called (default "score"). */
  phase?: string;
  onProgress?: Progress | undefined;
  signal?: AbortSignal | undefined;
}

/** What `scoreRequests` found. */
export interface Scores {
  /** One for each request, in order. */
  readonly answers: readonly Answer[];
  /** Different requests, and those of them whose answer was in the cache. */
  readonly requests: number;
  readonly cached: number;
}

/** A sequence that the model reads, and the requests that it answers. */
interface Reading {
  readonly ids: readonly number[];
  readonly requests: { readonly key: string; readonly continuation: readonly number[] }[];
}

/** Sequences read together. */
interface Plan {
  readonly readings: Reading[];
  /** Of each, the tokens that it has in common with the one before. */
  readonly shared: number[];
}

/**
 * Log-likelihoods of continuations, each given its context. Sequences are sorted, so that those with the same
 * beginning follow one another, and a beginning is computed once per batch however many share it: the choices of a row,
 * and the examples before all rows. Nothing is padded, and only hidden states that predict a token of a continuation
 * meet the output head. What is longer than the model's context loses tokens on the left.
 *
 * Batches depend on the requests alone, not on what the cache holds: a run that goes on where another was stopped
 * computes what that would have.
 *
 * @throws RmError DATA_INVALID for a continuation longer than the context, NOT_FINITE.
 */
export async function scoreRequests(
  model: Model,
  requests: readonly TokenRequest[],
  options: ScoreOptions = {},
): Promise<Scores> {
  const { cache, onProgress, signal, phase = 'score' } = options;
  using _section = model.device.section('score');
  const keys = requests.map(requestKey);
  const readings = sortedReadings(requests, keys, model.arch.contextLength);
  const answers = new Map<string, Answer>();
  const missing = (reading: Reading) => reading.requests.filter(({ key }) => !answers.has(key));
  for (const key of keys) {
    const known = cache?.get(key);
    if (known) answers.set(key, known);
  }
  const [total, cached] = [new Set(keys).size, answers.size];
  const batchTokens = options.batchTokens ?? defaultBatchTokens(model.device, model.arch);
  const alike = (a: number, b: number) => rotateAlike(model.arch.ropes, a, b);
  for (const { readings: planned } of plans(readings, batchTokens, alike)) {
    signal?.throwIfAborted();
    const wanted = planned
      .map(reading => ({ ids: reading.ids, requests: missing(reading) }))
      .filter(({ requests: left }) => left.length > 0);
    for (const plan of plans(wanted, Number.POSITIVE_INFINITY, alike)) {
      const found = await scoreBatch(model, plan);
      cache?.add(found);
      for (const [key, answer] of found) answers.set(key, answer);
    }
    onProgress?.({ phase, done: answers.size, total, unit: 'requests' });
  }
  return { answers: keys.map(key => answers.get(key)!), requests: total, cached };
}

function sortedReadings(
  requests: readonly TokenRequest[],
  keys: readonly string[],
  contextLength: number,
): Reading[] {
  const byIds = new Map<string, Reading>();
  const seen = new Set<string>();
  for (const [i, { context, continuation }] of requests.entries()) {
    if (continuation.length > contextLength) {
      throw new RmError(
        'DATA_INVALID',
        `a continuation has ${continuation.length} tokens, the model's context is ${contextLength}`,
        'Shorten the answer, or use a model with a longer context.',
      );
    }
    if (seen.has(keys[i]!)) continue;
    seen.add(keys[i]!);
    // The last token is predicted and not read.
    const ids = [...context, ...continuation].slice(-(contextLength + 1)).slice(0, -1);
    const name = ids.join(' ');
    const reading = byIds.get(name) ?? { ids, requests: [] };
    reading.requests.push({ key: keys[i]!, continuation });
    byIds.set(name, reading);
  }
  return [...byIds.values()].sort((a, b) => compareIds(a.ids, b.ids));
}

function compareIds(a: readonly number[], b: readonly number[]): number {
  const common = commonPrefix(a, b);
  return (a[common] ?? -1) - (b[common] ?? -1);
}

function commonPrefix(a: readonly number[], b: readonly number[]): number {
  const most = Math.min(a.length, b.length);
  let i = 0;
  while (i < most && a[i] === b[i]) i++;
  return i;
}

/** Keys of a batch are copied per sequence: so many times the tokens are as much memory as the wide MLP takes. */
const KEYS_PER_TOKEN = 8;

/** Batches of at most `batchTokens` tokens, those that neighbours share (if they are `alike`) counted once. */
function plans(
  readings: readonly Reading[],
  batchTokens: number,
  alike: (a: number, b: number) => boolean,
): Plan[] {
  const batches: Plan[] = [];
  let [tokens, keys] = [0, 0];
  for (const reading of readings) {
    const { ids } = reading;
    const before = batches.at(-1)?.readings.at(-1);
    const shares = before && alike(before.ids.length, ids.length);
    const common = shares ? commonPrefix(before.ids, ids) : 0;
    const added = ids.length - common;
    if (!before || tokens + added > batchTokens || keys + ids.length > KEYS_PER_TOKEN * batchTokens) {
      batches.push({ readings: [reading], shared: [0] });
      tokens = ids.length;
      keys = ids.length;
      continue;
    }
    batches.at(-1)!.readings.push(reading);
    batches.at(-1)!.shared.push(common);
    tokens += added;
    keys += ids.length;
  }
  return batches;
}

async function scoreBatch(
  model: Model,
  { readings, shared }: Plan,
): Promise<(readonly [key: string, answer: Answer])[]> {
  const { device, weights } = model;
  const rec = device.recorder;
  using batch = new Batch(
    device,
    readings.map(({ ids }) => ids),
    { shared },
  );
  // Of every token of every continuation, the row that predicts it.
  const rows: number[] = [];
  const targets: number[] = [];
  for (const [r, { requests }] of readings.entries()) {
    for (const { continuation } of requests) {
      rows.push(...batch.rowsOf[r]!.slice(-continuation.length));
      targets.push(...continuation);
    }
  }
  using scope = new Scope(device);
  const vector = (values: readonly number[], label: string) =>
    scope.own(tensorFrom(device, Uint32Array.from(values), [values.length], label));
  const hidden = scope.own(forward(model, batch));
  const chosen = scope.tensor([rows.length, model.arch.hidden], 'f32', 'states that predict');
  embedding(rec, hidden, vector(rows, 'rows that predict'), chosen);
  const [logp, below] = [0, 1].map(() => scope.tensor([rows.length], 'f32', 'scores')) as [never, never];
  const normed = scope.own(finalNorm(model, chosen));
  logLikelihood(rec, normed, weights.lmHead, vector(targets, 'targets'), logp, {
    form: model.arch.logitForm,
    below,
  });
  const [scores, distances] = [await downloadF32(logp), await downloadF32(below)];
  let at = 0;
  return readings.flatMap(({ requests }) =>
    requests.map(({ key, continuation }) => {
      const end = at + continuation.length;
      let sum = 0;
      let isGreedy = true;
      for (; at < end; at++) {
        sum += scores[at]!;
        isGreedy &&= distances[at] === 0;
      }
      if (!Number.isFinite(sum)) {
        throw new RmError(
          'NOT_FINITE',
          'the model assigns no finite likelihood to a continuation',
          'The model is damaged: look at its weights, or at how it was made.',
        );
      }
      return [key, { logLikelihood: sum, isGreedy }] as const;
    }),
  );
}
