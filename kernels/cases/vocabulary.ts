import { tensorFrom } from '../../engine/index.js';
import type { FloatType } from '../shared/checks.js';
import { compareDistributions } from '../vocabulary/compareDistributions.js';
import type { LogitForm } from '../vocabulary/logitTile.js';
import { logLikelihood } from '../vocabulary/logLikelihood.js';
import type { Predictions } from '../vocabulary/vocabularyPasses.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';

interface Shape {
  tokens: number;
  vocabulary: number;
  depth: number;
  dtype: FloatType;
  /** Standard deviation of the logits. */
  spread: number;
  form?: LogitForm;
  bench?: boolean;
}

export const targetsOf = (tokens: number, vocabulary: number): Uint32Array =>
  Uint32Array.from({ length: tokens }, (_, t) => (t * 7919 + vocabulary - 1) % vocabulary);

/** Logits of token t in f64, and the logarithm of the sum of their exponentials. */
export function logitsF64(
  hidden: ArrayLike<number>,
  head: ArrayLike<number>,
  depth: number,
  t: number,
  { factor = 1, softcap }: LogitForm = {},
) {
  const values = new Float64Array(head.length / depth);
  for (let v = 0; v < values.length; v++) {
    let sum = 0;
    for (let d = 0; d < depth; d++) sum += hidden[t * depth + d]! * head[v * depth + d]!;
    sum *= factor;
    values[v] = softcap ? softcap * Math.tanh(sum / softcap) : sum;
  }
  const most = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  return { values, logSum: most + Math.log(values.reduce((sum, x) => sum + Math.exp(x - most), 0)) };
}

const formName = ({ form }: Shape): string =>
  form ? `, factor ${form.factor ?? 1}${form.softcap ? `, capped to ${form.softcap}` : ''}` : '';

function logLikelihoodCase(shape: Shape): KernelCase {
  const { tokens, vocabulary, depth, dtype, spread, form, bench = false } = shape;
  return {
    kernel: 'logLikelihood',
    name: `${tokens}x${depth}, vocabulary ${vocabulary} ${dtype}, logits of ${spread}${formName(shape)}`,
    flops: tokens * vocabulary * (2 * depth + 4),
    bytes: 4 * tokens * depth + (dtype === 'f32' ? 4 : 2) * vocabulary * depth,
    bench,
    tolerance: 1e-6,
    async setup(scope) {
      const factor = spread / Math.sqrt(depth);
      const hidden = await caseTensor(
        scope,
        normals(tokens * depth, 1).map(x => x * factor),
        [tokens, depth],
      );
      const head = await caseTensor(scope, normals(vocabulary * depth, 2), [vocabulary, depth], dtype);
      const targets = targetsOf(tokens, vocabulary);
      const targetTensor = scope.own(tensorFrom(scope.device, targets));
      const output = scope.tensor([tokens]);
      return {
        run: rec => logLikelihood(rec, hidden.tensor, head.tensor, targetTensor, output, form && { form }),
        output,
        reference: () => ({
          expected: Float64Array.from({ length: tokens }, (_, t) => {
            const { values, logSum } = logitsF64(hidden.values, head.values, depth, t, form);
            return values[targets[t]!]! - logSum;
          }),
        }),
      };
    },
  };
}

const results = ['nllA', 'nllB', 'kl', 'topA', 'topB'] as const;

/** One result of compareDistributions; b = a + noise * other normal numbers, with heads of different depth. */
function compareCase(shape: Shape, result: (typeof results)[number], noise: number): KernelCase {
  const { tokens, vocabulary, depth, dtype, spread, form, bench = false } = shape;
  return {
    kernel: 'compareDistributions',
    name: `${result} of ${tokens}x${depth}, vocabulary ${vocabulary} ${dtype}, logits of ${spread}, noise ${noise}${formName(shape)}`,
    flops: tokens * vocabulary * (4 * depth + 10),
    bytes: 8 * tokens * depth + (dtype === 'f32' ? 8 : 4) * vocabulary * depth,
    bench,
    // Absolute: root mean square over the tokens.
    tolerance: result.startsWith('top') ? 0 : 5e-6,
    async setup(scope) {
      const factor = spread / Math.sqrt(depth);
      const base = normals(tokens * depth, 1);
      const change = normals(tokens * depth, 3);
      const head = await caseTensor(scope, normals(vocabulary * depth, 2), [vocabulary, depth], dtype);
      const hidden = (weight: number) =>
        caseTensor(
          scope,
          base.map((x, i) => (x + weight * change[i]!) * factor),
          [tokens, depth],
        );
      const [a, b] = [await hidden(0), await hidden(noise)];
      const targets = targetsOf(tokens, vocabulary);
      const targetTensor = scope.own(tensorFrom(scope.device, targets));
      const out = {
        nllA: scope.tensor([tokens]),
        nllB: scope.tensor([tokens]),
        kl: scope.tensor([tokens]),
        topA: scope.tensor([tokens], 'u32'),
        topB: scope.tensor([tokens], 'u32'),
      };
      const model = (x: typeof a): Predictions => ({
        hidden: x.tensor,
        head: head.tensor,
        ...(form && { form }),
      });
      return {
        run: rec => compareDistributions(rec, model(a), model(b), targetTensor, out),
        output: out[result],
        reference: () => ({
          scale: Math.sqrt(tokens),
          expected: Float64Array.from({ length: tokens }, (_, t) => {
            const p = logitsF64(a.values, head.values, depth, t, form);
            const q = logitsF64(b.values, head.values, depth, t, form);
            const top = ({ values }: typeof p) => values.indexOf(Math.max(...values));
            const target = targets[t]!;
            switch (result) {
              case 'nllA':
                return p.logSum - p.values[target]!;
              case 'nllB':
                return q.logSum - q.values[target]!;
              case 'topA':
                return top(p);
              case 'topB':
                return top(q);
              case 'kl':
                return p.values.reduce((sum, x, v) => {
                  const logP = x - p.logSum;
                  return sum + Math.exp(logP) * (logP - (q.values[v]! - q.logSum));
                }, 0);
            }
          }),
        }),
      };
    },
  };
}

export const vocabularyCases: KernelCase[] = [
  logLikelihoodCase({ tokens: 1, vocabulary: 7, depth: 16, dtype: 'f32', spread: 1 }),
  logLikelihoodCase({ tokens: 7, vocabulary: 129, depth: 129, dtype: 'f32', spread: 10 }),
  logLikelihoodCase({ tokens: 129, vocabulary: 1000, depth: 64, dtype: 'f16', spread: 3 }),
  logLikelihoodCase({ tokens: 5, vocabulary: 20001, depth: 64, dtype: 'bf16', spread: 10 }),
  logLikelihoodCase({
    tokens: 5,
    vocabulary: 20001,
    depth: 64,
    dtype: 'bf16',
    spread: 20,
    form: { softcap: 30 },
  }),
  logLikelihoodCase({
    tokens: 7,
    vocabulary: 129,
    depth: 64,
    dtype: 'f32',
    spread: 80,
    form: { factor: 0.125 },
  }),
  logLikelihoodCase({ tokens: 64, vocabulary: 8192, depth: 64, dtype: 'bf16', spread: 3, bench: true }),
  ...results.flatMap(result => [
    compareCase({ tokens: 7, vocabulary: 129, depth: 64, dtype: 'f32', spread: 10 }, result, 1),
    compareCase({ tokens: 33, vocabulary: 5000, depth: 32, dtype: 'bf16', spread: 3 }, result, 0.1),
  ]),
  compareCase({ tokens: 33, vocabulary: 5000, depth: 32, dtype: 'f16', spread: 10 }, 'kl', 1e-3),
  ...(['nllB', 'kl'] as const).map(result =>
    compareCase(
      {
        tokens: 9,
        vocabulary: 8200,
        depth: 64,
        dtype: 'f32',
        spread: 20,
        form: { factor: 0.5, softcap: 10 },
      },
      result,
      0.1,
    ),
  ),
  compareCase({ tokens: 7, vocabulary: 8200, depth: 64, dtype: 'f32', spread: 10 }, 'kl', 1e-2),
  compareCase({ tokens: 64, vocabulary: 8192, depth: 64, dtype: 'bf16', spread: 3, bench: true }, 'kl', 0.3),
];
