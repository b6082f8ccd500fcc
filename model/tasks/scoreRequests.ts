import {
  asF32,
  checkArguments,
  downloadTogether,
  instanceOf,
  listOf,
  optional,
  type Progress,
  RmError,
  record,
  Scope,
  tensorFrom,
  text,
  whole,
} from '../../engine/index.js';
import { embedding, logLikelihood } from '../../kernels/index.js';
import { rotateAlike } from '../architecture/rope.js';
import { aModel, runForms, settingsAmong, tokenIds } from '../arguments/forms.js';
import { createHostStates, forwardByLayer } from '../evaluation/forwardByLayer.js';
import { Batch, defaultBatchTokens } from '../transformer/batch.js';
import type { BatchTensors } from '../transformer/batchTensors.js';
import type { Model } from '../transformer/model.js';
import { finalNorm, forward } from '../transformer/transformer.js';
import type { TokenRequest } from './encodeRequest.js';
import { type Answer, RequestCache, requestKey } from './requestCache.js';

/** Settings of `scoreRequests`. */
export interface ScoreOptions {
  /** Most tokens of a packed batch (default: by the kind of device). */
  batchTokens?: number | undefined;
  cache?: RequestCache | undefined;
  /** Name of the phase in progress events (default "score"). */
  phase?: string;
  onProgress?: Progress | undefined;
  signal?: AbortSignal | undefined;
}

/** The form of `ScoreOptions`. */
export const scoreSettings = settingsAmong<ScoreOptions>({
  ...runForms,
  batchTokens: optional(whole(1)),
  cache: optional(instanceOf(RequestCache, 'a RequestCache')),
  phase: optional(text),
});

/** Result of `scoreRequests`. */
export interface Scores {
  /** One answer per request, in order. */
  readonly answers: readonly Answer[];
  /** Distinct requests, and how many of them the cache answered. */
  readonly requests: number;
  readonly cached: number;
}

/** A sequence to read, and the requests that it answers. */
interface Reading {
  readonly ids: readonly number[];
  readonly requests: { readonly key: string; readonly continuation: readonly number[] }[];
}

/** Sequences read in one batch. */
interface Plan {
  readonly readings: Reading[];
  /** For each, the number of leading tokens it shares with the previous one. */
  readonly shared: number[];
}

/**
 * Computes log-likelihoods of continuations given their contexts. Sequences are sorted, so that those with a common prefix
 * follow one another and each batch computes that prefix once: the few-shot examples before all rows, and a row's text
 * before its choices. There is no padding, and the output head runs only on hidden states that predict a continuation's
 * token. A sequence longer than the model's context loses tokens on the left.
 *
 * Batches depend on the requests alone, not on the cache, so a resumed run computes the same values as an uninterrupted
 * one.
 *
 * @throws RmError DATA_INVALID for a continuation longer than the context, NOT_FINITE.
 */
export async function scoreRequests(
  model: Model,
  requests: readonly TokenRequest[],
  options: ScoreOptions = {},
): Promise<Scores> {
  checkArguments(
    'scoreRequests',
    { model, requests, options },
    {
      model: aModel,
      requests: listOf(record({ context: tokenIds, continuation: tokenIds })),
      options: scoreSettings,
    },
  );
  const { cache, onProgress, signal, phase = 'score' } = options;
  using _section = model.device.section('score');
  const keys = requests.map(requestKey);
  const readings = sortedReadings(requests, keys, model.arch.contextLength);
  const answers = new Map<string, Answer>();
  const missing = (reading: Reading) => reading.requests.filter(({ key }) => !answers.has(key));
  for (const key of keys) {
    const answer = cache?.get(key);
    if (answer) answers.set(key, answer);
  }
  const [total, cached] = [new Set(keys).size, answers.size];
  const batchTokens = options.batchTokens ?? defaultBatchTokens(model.device, model.arch);
  const alike = (a: number, b: number) => rotateAlike(model.arch.ropes, a, b);
  const left = plans(readings, batchTokens, alike).flatMap(({ readings: planned }) => {
    const unanswered = planned
      .map(reading => ({ ids: reading.ids, requests: missing(reading) }))
      .filter(({ requests }) => requests.length > 0);
    return plans(unanswered, Number.POSITIVE_INFINITY, alike);
  });
  const tell = () => onProgress?.({ phase, done: answers.size, total, unit: 'requests' });
  if (left.length === 0) tell();
  for (const group of layerwise(model, left)) {
    using states = createHostStates(model.device);
    if (model.isOffloaded) {
      const open = (index: number) => openBatch(model, group[index]!);
      await forwardByLayer(model, group.length, open, states, { onProgress, signal, phase });
    }
    for (const [index, plan] of group.entries()) {
      signal?.throwIfAborted();
      const scored = await scoreBatch(model, plan, index, states);
      cache?.add(scored);
      for (const [key, answer] of scored) answers.set(key, answer);
      tell();
    }
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
        `a continuation has ${continuation.length} tokens, but the model's context is ${contextLength}`,
        'Shorten the answer, or use a model with a longer context.',
      );
    }
    if (seen.has(keys[i]!)) continue;
    seen.add(keys[i]!);
    // The last token is predicted, not read.
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

/** Keys are copied per sequence; this many keys per token take about as much memory as the wide MLP. */
const KEYS_PER_TOKEN = 8;

/** Plans batches of at most `batchTokens` tokens, counting tokens shared by neighbours (if `alike`) once. */
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

/** Share of the free host memory for states of an offloaded model. */
const HOST_SHARE = 1 / 4;

/**
 * Batches that go through the layers together: each alone while the model is on the device; else as many as the host has
 * room for, so that each layer is uploaded once for all of them.
 */
function layerwise(model: Model, batches: readonly Plan[]): Plan[][] {
  if (!model.isOffloaded) return batches.map(batch => [batch]);
  const most = (HOST_SHARE * model.device.host.free) / (4 * model.arch.hidden);
  const groups: Plan[][] = [];
  let tokens = Number.POSITIVE_INFINITY;
  for (const batch of batches) {
    const added = batch.readings.reduce((sum, { ids }, r) => sum + ids.length - batch.shared[r]!, 0);
    if (tokens + added > most) {
      groups.push([]);
      tokens = 0;
    }
    groups.at(-1)!.push(batch);
    tokens += added;
  }
  return groups;
}

const openBatch = ({ device }: Model, { readings, shared }: Plan): Batch =>
  new Batch(
    device,
    readings.map(({ ids }) => ids),
    { shared },
  );

/** @param states outputs of the last layer by batch, where the model is offloaded. */
async function scoreBatch(
  model: Model,
  plan: Plan,
  index: number,
  states: BatchTensors,
): Promise<(readonly [key: string, answer: Answer])[]> {
  const { device, weights } = model;
  const { readings } = plan;
  const rec = device.recorder;
  using batch = openBatch(model, plan);
  // The row that predicts each token of each continuation.
  const rows: number[] = [];
  const targets: number[] = [];
  for (const [r, { requests }] of readings.entries()) {
    for (const { continuation } of requests) {
      for (const row of batch.rowsOf[r]!.slice(-continuation.length)) rows.push(row);
      for (const token of continuation) targets.push(token);
    }
  }
  using scope = new Scope(device);
  const vector = (values: readonly number[], label: string) =>
    scope.own(tensorFrom(device, Uint32Array.from(values), [values.length], label));
  const hidden = states.has(index) ? await states.get(index, scope) : scope.own(forward(model, batch));
  const chosen = scope.tensor([rows.length, model.arch.hidden], 'f32', 'states that predict');
  embedding(rec, hidden, vector(rows, 'rows that predict'), chosen);
  const [logp, below] = [0, 1].map(() => scope.tensor([rows.length], 'f32', 'scores')) as [never, never];
  const normed = scope.own(finalNorm(model, chosen));
  logLikelihood(rec, normed, weights.lmHead, vector(targets, 'targets'), logp, {
    form: model.arch.logitForm,
    bias: weights.lmHeadBias,
    below,
  });
  const [scores, distances] = (await downloadTogether([logp, below])).map(asF32) as [
    Float32Array,
    Float32Array,
  ];
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
          'The model is damaged: check its weights and how it was made.',
        );
      }
      return [key, { logLikelihood: sum, isGreedy }] as const;
    }),
  );
}
