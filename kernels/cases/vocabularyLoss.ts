import { type Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import type { FloatType } from '../shared/checks.js';
import { crossEntropyLoss } from '../vocabulary/crossEntropyLoss.js';
import { klLoss } from '../vocabulary/klLoss.js';
import type { LogitForm } from '../vocabulary/logitTile.js';
import { topKlLoss } from '../vocabulary/topKlLoss.js';
import { topLogProbabilities } from '../vocabulary/topLogProbabilities.js';
import type { Predictions } from '../vocabulary/vocabularyPasses.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';
import { logitsF64, targetsOf } from './vocabulary.js';

type Values = ArrayLike<number>;

/** Computes the loss of one token and its slopes by the student's logits. */
export type LossF64 = (
  student: Float64Array,
  teacher: Float64Array,
  token: number,
) => { loss: number; slopes: Float64Array };

function logSoftmax(logits: Float64Array): Float64Array {
  const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const logSum = most + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - most), 0));
  return logits.map(x => x - logSum);
}

/** -log of the probability of the tokens `targets`. */
export const crossEntropyF64 =
  (targets: Uint32Array): LossF64 =>
  (student, _, t) => {
    const logQ = logSoftmax(student);
    const slopes = logQ.map(Math.exp);
    slopes[targets[t]!]! -= 1;
    return { loss: -logQ[targets[t]!]!, slopes };
  };

/** KL(teacher || student) over all tokens. */
export const klF64: LossF64 = (student, teacher) => {
  const [logQ, logP] = [logSoftmax(student), logSoftmax(teacher)];
  const loss = logP.reduce((sum, x, v) => sum + Math.exp(x) * (x - logQ[v]!), 0);
  return { loss, slopes: logQ.map((x, v) => Math.exp(x) - Math.exp(logP[v]!)) };
};

/** Ids of the K largest values, in falling order; the lower id comes first if values are equal. */
const likeliest = (values: Float64Array, k: number): number[] =>
  Array.from(values.keys())
    .sort((a, b) => values[b]! - values[a]! || a - b)
    .slice(0, k);

/** Logarithm of the sum of e^x over all but some ids; -1e38 if the sum is 0. */
function logRest(logs: Float64Array, ids: readonly number[]): number {
  const left = logs.slice();
  for (const id of ids) left[id] = Number.NEGATIVE_INFINITY;
  const sum = left.reduce((total, x) => total + Math.exp(x), 0);
  return sum > 0 ? Math.log(sum) : Math.fround(-1e38);
}

/** KL over the teacher's K likeliest tokens, with all others merged into one. */
export const topKlF64 =
  (k: number): LossF64 =>
  (student, teacher) => {
    const [logQ, logP] = [logSoftmax(student), logSoftmax(teacher)];
    const ids = likeliest(teacher, k);
    const [logRestP, logRestQ] = [logRest(logP, ids), logRest(logQ, ids)];
    const r = Math.exp(logRestP);
    const slopes = logQ.map(x => Math.exp(x) * (r > 0 ? 1 - r / Math.exp(logRestQ) : 1));
    for (const id of ids) slopes[id] = Math.exp(logQ[id]!) - Math.exp(logP[id]!);
    const loss = ids.reduce((sum, id) => sum + Math.exp(logP[id]!) * (logP[id]! - logQ[id]!), 0);
    return { loss: loss + (r > 0 ? r * (logRestP - logRestQ) : 0), slopes };
  };

/** Losses of all tokens, and the gradients of sum(weights * loss) by hidden and head, in f64. */
export function vocabularyLossF64(
  loss: LossF64,
  student: { hidden: Values; head: Values },
  teacher: { hidden: Values; head: Values },
  weights: Values,
  depth: number,
  form: LogitForm = {},
): Record<'loss' | 'hidden' | 'head', Float64Array> {
  const results = {
    loss: new Float64Array(weights.length),
    hidden: new Float64Array(student.hidden.length),
    head: new Float64Array(student.head.length),
  };
  for (let t = 0; t < weights.length; t++) {
    const of = ({ hidden, head }: typeof student) => logitsF64(hidden, head, depth, t, form).values;
    const logits = of(student);
    const one = loss(logits, of(teacher), t);
    results.loss[t] = one.loss;
    one.slopes.forEach((slopeOfFormed, v) => {
      const { factor = 1, softcap } = form;
      const slope = slopeOfFormed * factor * (softcap ? 1 - (logits[v]! / softcap) ** 2 : 1);
      for (let d = 0; d < depth; d++) {
        results.hidden[t * depth + d]! += weights[t]! * slope * student.head[v * depth + d]!;
        results.head[v * depth + d]! += weights[t]! * slope * student.hidden[t * depth + d]!;
      }
    });
  }
  return results;
}

interface Shape {
  tokens: number;
  vocabulary: number;
  depth: number;
  dtype: FloatType;
  /** Standard deviation of the logits. */
  spread: number;
  /** K of topKlLoss. */
  k: number;
  form?: LogitForm;
  bench?: boolean;
}

async function predictions(
  scope: Scope,
  { tokens, vocabulary, depth, dtype, spread, form }: Shape,
  seed: number,
) {
  const factor = spread / Math.sqrt(depth);
  const base = normals(tokens * depth, 1);
  const change = normals(tokens * depth, 3);
  const hidden = await caseTensor(
    scope,
    base.map((x, i) => (x + 0.3 * seed * change[i]!) * factor),
    [tokens, depth],
  );
  const head = await caseTensor(scope, normals(vocabulary * depth, 2), [vocabulary, depth], dtype);
  const tensors: Predictions = { hidden: hidden.tensor, head: head.tensor, ...(form && { form }) };
  return { tensors, values: { hidden: hidden.values, head: head.values } };
}

/** Creates tensors for a teacher's K likeliest tokens. */
export function topTensors(scope: Scope, tokens: number, k: number) {
  return {
    ids: scope.tensor([tokens, k], 'u32', 'ids'),
    logProbabilities: scope.tensor([tokens, k], 'f32', 'log-probabilities'),
    logRest: scope.tensor([tokens], 'f32', 'log rest'),
  };
}

const kernels = ['crossEntropyLoss', 'klLoss', 'topKlLoss'] as const;
type Kernel = (typeof kernels)[number];

function lossCase(kernel: Kernel, shape: Shape, result: 'loss' | 'hidden' | 'head'): KernelCase {
  const { tokens, vocabulary, depth, dtype, spread, k, form, bench = false } = shape;
  const products = kernel === 'klLoss' ? 12 : 8;
  return {
    kernel,
    name: `${result} of ${tokens}x${depth}, vocabulary ${vocabulary} ${dtype}, logits of ${spread}${kernel === 'topKlLoss' ? `, top ${k}` : ''}${form ? `, capped to ${form.softcap}` : ''}`,
    flops: products * tokens * vocabulary * depth,
    bytes: 8 * vocabulary * depth,
    bench: bench && result === 'head',
    // That of the loss is absolute: root mean square over the tokens.
    tolerance: result === 'loss' ? 5e-6 : 1e-5,
    async setup(scope) {
      const [student, teacher] = [await predictions(scope, shape, 1), await predictions(scope, shape, 0)];
      const targets = targetsOf(tokens, vocabulary);
      const targetTensor = scope.own(tensorFrom(scope.device, targets));
      // Some tokens do not count.
      const weights = await caseTensor(
        scope,
        Float32Array.from({ length: tokens }, (_, t) => (t % 5 === 3 ? 0 : 1 / (t + 1))),
        [tokens],
      );
      const loss = scope.tensor([tokens]);
      const gradients = { hidden: scope.tensor([tokens, depth]), head: scope.tensor([vocabulary, depth]) };
      const top = topTensors(scope, tokens, k);
      topLogProbabilities(scope.device.recorder, teacher.tensors, top);
      const common = [weights.tensor, loss, gradients] as const;
      const output: Tensor = { loss, ...gradients }[result];
      return {
        run(rec) {
          rec.clear(gradients.head);
          if (kernel === 'klLoss') klLoss(rec, student.tensors, teacher.tensors, ...common);
          else if (kernel === 'topKlLoss') topKlLoss(rec, student.tensors, top, ...common);
          else crossEntropyLoss(rec, student.tensors, targetTensor, ...common);
        },
        output,
        reference() {
          const host = { crossEntropyLoss: crossEntropyF64(targets), klLoss: klF64, topKlLoss: topKlF64(k) }[
            kernel
          ];
          const results = vocabularyLossF64(
            host,
            student.values,
            teacher.values,
            weights.values,
            depth,
            form,
          );
          return { expected: results[result], ...(result === 'loss' && { scale: Math.sqrt(tokens) }) };
        },
      };
    },
  };
}

function topCase(shape: Shape, result: 'ids' | 'logProbabilities' | 'logRest'): KernelCase {
  const { tokens, vocabulary, depth, dtype, spread, k, form, bench = false } = shape;
  return {
    kernel: 'topLogProbabilities',
    name: `${result} of ${tokens}x${depth}, vocabulary ${vocabulary} ${dtype}, logits of ${spread}, top ${k}`,
    flops: tokens * vocabulary * (2 * depth + 8),
    bytes: 8 * vocabulary * depth,
    bench: bench && result === 'ids',
    // Absolute: root mean square.
    tolerance: result === 'ids' ? 0 : 5e-6,
    async setup(scope) {
      const { tensors, values } = await predictions(scope, shape, 0);
      const top = topTensors(scope, tokens, k);
      return {
        run: rec => topLogProbabilities(rec, tensors, top),
        output: top[result],
        reference() {
          const rows = Array.from({ length: tokens }, (_, t) => {
            const logP = logSoftmax(logitsF64(values.hidden, values.head, depth, t, form).values);
            const ids = likeliest(logP, k);
            const kept = { ids, logProbabilities: ids.map(id => logP[id]!), logRest: [logRest(logP, ids)] };
            return kept[result];
          });
          const expected = rows.flat();
          return { expected, scale: Math.sqrt(expected.length) };
        },
      };
    },
  };
}

const shapes: Shape[] = [
  { tokens: 1, vocabulary: 7, depth: 16, dtype: 'f32', spread: 1, k: 7 },
  { tokens: 7, vocabulary: 129, depth: 64, dtype: 'f32', spread: 10, k: 1 },
  { tokens: 33, vocabulary: 5000, depth: 32, dtype: 'bf16', spread: 3, k: 100 },
  { tokens: 7, vocabulary: 130, depth: 16, dtype: 'f32', spread: 3, k: 9, form: { factor: 0.5, softcap: 2 } },
  { tokens: 5, vocabulary: 8200, depth: 48, dtype: 'f16', spread: 10, k: 10 },
];
const large: Shape = {
  tokens: 64,
  vocabulary: 8192,
  depth: 64,
  dtype: 'bf16',
  spread: 3,
  k: 100,
  bench: true,
};

export const vocabularyLossCases: readonly KernelCase[] = [
  ...shapes.flatMap(shape =>
    (['ids', 'logProbabilities', 'logRest'] as const).map(result => topCase(shape, result)),
  ),
  topCase(large, 'ids'),
  ...kernels.flatMap(kernel => [
    ...shapes.flatMap(shape =>
      (['loss', 'hidden', 'head'] as const).map(result => lossCase(kernel, shape, result)),
    ),
    lossCase(kernel, large, 'head'),
  ]),
];
