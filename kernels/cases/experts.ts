import { type Scope, tensorFrom } from '../../engine/index.js';
import { addExperts } from '../experts/addExperts.js';
import { type ExpertRows, groupByExpert } from '../experts/groupByExpert.js';
import { topExperts } from '../experts/topExperts.js';
import { gatedMatmulVariants } from '../matmul/gatedMatmul.js';
import { groupedGatedMatmul, groupedMatmul } from '../matmul/groupedMatmul.js';
import { matmulVariants } from '../matmul/matmul.js';
import { computesBatches } from '../matmul/variants.js';
import type { FloatType } from '../shared/checks.js';
import { activations } from './activations.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';
import { type MatmulVariant, namedChoices } from './matmul.js';

/** Softmax over the largest `count` logits of every row, or their part of the softmax over all. */
const topCase = (tokens: number, experts: number, count: number, overAll = false): KernelCase => ({
  kernel: 'topExperts',
  name: `${count} of ${experts} for ${tokens} tokens${overAll ? ', over all' : ''}`,
  flops: 2 * experts * experts * tokens,
  bytes: 8 * tokens * experts,
  bench: false,
  tolerance: 1e-6,
  async setup(scope) {
    const logits = await caseTensor(scope, normals(tokens * experts), [tokens, experts]);
    const output = scope.tensor([tokens, experts]);
    return {
      run: rec => topExperts(rec, logits.tensor, count, output, { overAll }),
      output,
      reference: () => ({
        expected: Float64Array.from({ length: output.size }, (_, i) => {
          const row = Math.floor(i / experts) * experts;
          const powers = logits.values.slice(row, row + experts).map(Math.exp);
          const chosen = [...powers].sort((a, b) => b - a).slice(0, count);
          const own = powers[i - row]!;
          const all = overAll ? [...powers] : chosen;
          return own >= chosen.at(-1)! ? own / all.reduce((a, b) => a + b, 0) : 0;
        }),
      }),
    };
  },
});

/** Weights of `taken` experts for each token, of uneven popularity; some experts have none. */
function routed(tokens: number, experts: number, taken: number): Float32Array {
  const weights = new Float32Array(tokens * experts);
  const numbers = normals(tokens * taken, 5);
  for (let t = 0; t < tokens; t++) {
    for (let j = 0; j < taken; j++) {
      const expert = Math.floor((((t * 7 + j * 3) % experts) ** 2 / experts) % experts);
      weights[t * experts + ((expert + j) % experts)] = 0.1 + Math.abs(numbers[t * taken + j]!);
    }
  }
  return weights;
}

/** Rows by expert, then by token. */
const assignments = (weights: Float32Array, experts: number) =>
  Array.from({ length: experts }, (_, expert) =>
    Array.from({ length: weights.length / experts }, (_, token) => ({
      ...{ token, expert },
      weight: weights[token * experts + expert]!,
    })).filter(({ weight }) => weight > 0),
  );

function expertRows(scope: Scope, tokens: number, experts: number, taken: number): ExpertRows {
  return {
    begins: scope.tensor([experts + 1], 'u32'),
    tokens: scope.tensor([tokens * taken], 'u32'),
    factors: scope.tensor([tokens * taken]),
    places: scope.tensor([tokens, taken], 'u32'),
  };
}

/** Groups tokens and adds rows that say where they are from: row r of token t and expert e holds t + e / 8 + column. */
const groupCase = (tokens: number, experts: number, taken: number, columns: number): KernelCase => ({
  kernel: 'groupByExpert and addExperts',
  name: `${taken} of ${experts} for ${tokens} tokens, ${columns} columns`,
  flops: tokens * experts,
  bytes: 8 * tokens * experts,
  bench: false,
  tolerance: 1e-6,
  async setup(scope) {
    const values = routed(tokens, experts, taken);
    const weights = await caseTensor(scope, values, [tokens, experts]);
    const list = assignments(values, experts).flat();
    const x = new Float32Array(tokens * taken * columns).fill(Number.NaN);
    for (const [r, { token, expert }] of list.entries()) {
      for (let c = 0; c < columns; c++) x[r * columns + c] = token + expert / 8 + c;
    }
    const rows = await caseTensor(scope, x, [tokens * taken, columns]);
    const start = await caseTensor(scope, normals(tokens * columns, 2), [tokens, columns]);
    const output = scope.tensor([tokens, columns]);
    const grouped = expertRows(scope, tokens, experts, taken);
    return {
      output,
      run(rec) {
        rec.copy(start.tensor, output);
        groupByExpert(rec, weights.tensor, grouped);
        addExperts(rec, rows.tensor, grouped, output);
      },
      reference() {
        const expected = Float64Array.from(start.values);
        for (const { token, expert, weight } of list) {
          for (let c = 0; c < columns; c++) {
            expected[token * columns + c]! += weight * (token + expert / 8 + c);
          }
        }
        return { expected };
      },
    };
  },
});

interface GroupedCase {
  /** Rows of each group. */
  groups: readonly number[];
  n: number;
  k: number;
  weights?: FloatType;
  bias?: boolean;
  gated?: boolean;
  limit?: number;
  /** Rows beyond the last group. */
  rest?: number;
  bench?: boolean;
}

/** Products of groups of rows with a matrix for each. */
export function groupedCase(item: GroupedCase): KernelCase<MatmulVariant> {
  const {
    groups,
    n,
    k,
    weights = 'bf16',
    bias = false,
    gated = false,
    limit,
    rest = 0,
    bench = false,
  } = item;
  const used = groups.reduce((sum, rows) => sum + rows, 0);
  const [m, count] = [used + rest, groups.length];
  const extras = `${bias ? ' + biases' : ''}${limit === undefined ? '' : ` within ${limit}`}`;
  return {
    kernel: gated ? 'groupedGatedMatmul' : 'groupedMatmul',
    name: `${count} groups of ${Math.min(...groups)} to ${Math.max(...groups)} rows, x${n}x${k} ${weights}${extras}`,
    flops: (gated ? 4 : 2) * used * n * k,
    bytes: 4 * used * (n + k) + (gated ? 2 : 1) * (weights === 'f32' ? 4 : 2) * count * n * k,
    bench,
    tolerance: 1e-6,
    variants(device) {
      const shape = { m: Math.ceil(m / count), n, k };
      const choices = gated
        ? gatedMatmulVariants(device, shape, ['f32', weights, weights])
        : matmulVariants(device, { ...shape, transposeA: false, transposeB: true }, { a: 'f32', b: weights });
      return namedChoices(choices.filter(computesBatches));
    },
    async setup(scope) {
      const size = count * n * k;
      const x = await caseTensor(scope, normals(m * k, 1), [m, k]);
      const scaled = (seed: number) => normals(size, seed).map(value => (2 * value) / Math.sqrt(k));
      const b = await caseTensor(scope, scaled(2), [count * n, k], weights);
      const up = gated ? await caseTensor(scope, scaled(3), [count * n, k], weights) : undefined;
      const biasOf = async (seed: number) =>
        bias ? await caseTensor(scope, normals(count * n, seed), [count, n]) : undefined;
      const [first, second] = [await biasOf(4), await biasOf(5)];
      const ends = groups.map((_, g) => groups.slice(0, g + 1).reduce((sum, rows) => sum + rows, 0));
      const begins = scope.own(tensorFrom(scope.device, Uint32Array.of(0, ...ends), [count + 1]));
      const start = await caseTensor(scope, normals(m * n, 6), [m, n]);
      const output = scope.tensor([m, n]);
      return {
        output,
        run(rec, variant) {
          rec.copy(start.tensor, output);
          const choice = variant && { variant: variant.choice };
          if (up) {
            groupedGatedMatmul(rec, x.tensor, b.tensor, up.tensor, begins, output, {
              ...{ activation: 'quick_gelu', gateBias: first?.tensor, upBias: second?.tensor, limit },
              ...choice,
            });
          } else groupedMatmul(rec, x.tensor, b.tensor, begins, output, { bias: first?.tensor, ...choice });
        },
        reference() {
          const expected = Float64Array.from(start.values);
          const product = (r: number, g: number, j: number, matrix: Float32Array, added?: Float32Array) => {
            let sum = added?.[g * n + j] ?? 0;
            for (let l = 0; l < k; l++) sum += x.values[r * k + l]! * matrix[(g * n + j) * k + l]!;
            return sum;
          };
          for (let r = 0; r < used; r++) {
            const g = ends.findIndex(end => r < end);
            for (let j = 0; j < n; j++) {
              const own = product(r, g, j, b.values, first?.values);
              if (!up) {
                expected[r * n + j] = own;
                continue;
              }
              const other = product(r, g, j, up.values, second?.values);
              expected[r * n + j] =
                limit === undefined
                  ? activations.quick_gelu(own) * other
                  : activations.quick_gelu(Math.min(own, limit)) *
                    (Math.min(Math.max(other, -limit), limit) + 1);
            }
          }
          return { expected };
        },
      };
    },
  };
}

export const expertCases: KernelCase[] = [
  topCase(7, 8, 2),
  topCase(129, 5, 5),
  topCase(1, 1, 1),
  topCase(70, 16, 3, true),
  groupCase(1, 8, 2, 12),
  groupCase(130, 5, 3, 7),
  groupCase(200, 32, 4, 8),
  // A row for each of some experts, as in decoding; groups of uneven sizes, empty ones first, between and last.
  groupedCase({ groups: [0, 1, 0, 1, 1, 0, 0], n: 68, k: 64, bias: true }),
  groupedCase({ groups: [0, 1, 0, 1, 1, 0, 0], n: 68, k: 64, bias: true, gated: true, limit: 1.5 }),
  groupedCase({ groups: [3, 0, 5, 2], n: 67, k: 129, rest: 3, weights: 'f16' }),
  groupedCase({ groups: [3, 0, 5, 2], n: 67, k: 129, rest: 3, gated: true }),
  groupedCase({ groups: [0, 150, 1, 0, 70, 64, 0], n: 132, k: 64, bias: true }),
  groupedCase({ groups: [0, 150, 1, 0, 70, 64, 0], n: 132, k: 64, gated: true, limit: 1.5, bias: true }),
];
