// Tokens drawn on the device, against their probabilities by definition in f64. 2 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadU32, Scope, seededRandom, tensorFrom } from '../../engine/index.js';
import { NOT_FINITE, sampleTokens } from '../../kernels/index.js';
import {
  penalizeRepeats,
  type SamplingOptions,
  samplingOf,
  tokenRandom,
} from '../../model/generation/sampler.js';
import { rejectsWith } from '../gpu.js';

let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(() => device.close());

const DRAWS = 4_000;
const logits = Float32Array.from([1, 3, -2, 2, 0.5]);

/** softmax(logits / temperature) over the tokens `keep`, by their definition. */
function expected(keep: readonly number[], temperature = 1): number[] {
  const weights = Array.from(logits, (logit, id) => (keep.includes(id) ? Math.exp(logit / temperature) : 0));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map(weight => weight / total);
}

/** The tokens that the device draws from rows of logits, each by one number. */
async function drawn(
  rows: readonly Float32Array[],
  randoms: Uint32Array,
  options: SamplingOptions,
): Promise<Uint32Array> {
  using scope = new Scope(device);
  const columns = rows[0]!.length;
  const values = new Float32Array(rows.length * columns);
  for (const [r, row] of rows.entries()) values.set(row, r * columns);
  const tensor = scope.own(tensorFrom(device, values, [rows.length, columns]));
  const out = scope.tensor([rows.length], 'u32');
  sampleTokens(device.recorder, tensor, scope.own(tensorFrom(device, randoms)), out, samplingOf(options)!);
  return await downloadU32(out);
}

const randomsOf = (count: number, seed = 0) => Uint32Array.from({ length: count }, tokenRandom(seed));

async function frequencies(options: SamplingOptions): Promise<number[]> {
  const rows = new Array<Float32Array>(DRAWS).fill(logits);
  const counts = new Array<number>(logits.length).fill(0);
  for (const token of await drawn(rows, randomsOf(DRAWS, options.seed), options)) counts[token]!++;
  return counts.map(count => count / DRAWS);
}

/** Five standard deviations of a share of DRAWS. */
function assertShares(found: readonly number[], shares: readonly number[]): void {
  for (const [id, share] of shares.entries()) {
    const allowed = 5 * Math.sqrt((share * (1 - share)) / DRAWS);
    assert.ok(Math.abs(found[id]! - share) <= allowed, `token ${id}: ${found[id]} instead of ${share}`);
  }
}

const all = [0, 1, 2, 3, 4];

test('tokens are drawn by softmax(logits / temperature)', async () => {
  assertShares(await frequencies({ temperature: 1, seed: 1 }), expected(all));
  assertShares(await frequencies({ temperature: 0.5, seed: 2 }), expected(all, 0.5));
  assertShares(await frequencies({ temperature: 3, seed: 3 }), expected(all, 3));
});

test('top-k keeps the k most likely tokens', async () => {
  assertShares(await frequencies({ temperature: 1, topK: 3, seed: 4 }), expected([1, 3, 0]));
  assertShares(await frequencies({ temperature: 1, topK: 1, seed: 4 }), expected([1]));
  assertShares(await frequencies({ temperature: 1, topK: 50, seed: 4 }), expected(all));
});

test('top-p keeps the most likely tokens that together reach the share', async () => {
  // Sorted: 1 (0.61), 3 (0.22), 0 (0.08), 4, 2.
  const [share1, share3] = [expected(all)[1]!, expected(all)[3]!];
  assertShares(await frequencies({ temperature: 1, topP: share1 - 0.01, seed: 5 }), expected([1]));
  assertShares(await frequencies({ temperature: 1, topP: share1 + 0.01, seed: 5 }), expected([1, 3]));
  assertShares(
    await frequencies({ temperature: 1, topP: share1 + share3 + 0.01, seed: 5 }),
    expected([1, 3, 0]),
  );
  assertShares(await frequencies({ temperature: 1, topP: 1, seed: 5 }), expected(all));
});

test('top-p counts its share within what top-k leaves', async () => {
  // Of tokens 1 and 3 the first has exp(3) / (exp(3) + exp(2)) = 0.73.
  assertShares(await frequencies({ temperature: 1, topK: 2, topP: 0.7, seed: 6 }), expected([1]));
  assertShares(await frequencies({ temperature: 1, topK: 2, topP: 0.75, seed: 6 }), expected([1, 3]));
});

test('the same seed draws the same tokens, another seed others', () => {
  const draw = (seed: number) => Array.from({ length: 50 }, tokenRandom(seed));
  assert.equal(draw(7), draw(7));
  assert.not.equal(draw(7), draw(8));
});

test('logits far apart neither overflow nor lose the largest', async () => {
  const far = Float32Array.from([-3e38, 3e38, 0]);
  const low = Float32Array.from([-3e38, -3.2e38, -3.4e38]);
  for (const temperature of [1e-30, 1e-9, 1, 1e20]) {
    assert.equal([...(await drawn([far, low], randomsOf(2), { temperature }))], [1, 0], `${temperature}`);
  }
  assert.is((await drawn([logits], randomsOf(1), { temperature: 1e-9 }))[0], 1);
});

test('equal logits are kept in the order of their ids', async () => {
  const equal = new Float32Array(200).fill(2.5);
  const rows = new Array<Float32Array>(500).fill(equal);
  const kinds = async (options: SamplingOptions) =>
    [...new Set(await drawn(rows, randomsOf(500), { temperature: 1, ...options }))].sort((a, b) => a - b);
  assert.equal(await kinds({ topK: 3 }), [0, 1, 2]);
  assert.equal(await kinds({ topP: 0.02 }), [0, 1, 2, 3]);
  assert.equal(await kinds({ topK: 100, topP: 0.02 }), [0, 1]);
});

/** By the definition, in f64: the sums of the kept tokens' shares up to each token, in the order of ids. */
function cumulative(
  values: Float32Array,
  { temperature = 1, topK = 0, topP = 1 }: SamplingOptions,
): Float64Array {
  const largest = values.reduce((a, b) => Math.max(a, b));
  const weights = Float64Array.from(values, value => Math.exp((value - largest) / temperature));
  let order = [...weights.keys()].sort((a, b) => weights[b]! - weights[a]! || a - b);
  if (topK > 0) order = order.slice(0, topK);
  const all = order.reduce((sum, id) => sum + weights[id]!, 0);
  let reached = 0;
  const end = order.findIndex(id => {
    reached += weights[id]!;
    return reached >= topP * all;
  });
  const kept = new Set(end < 0 ? order : order.slice(0, end + 1));
  const total = [...kept].reduce((sum, id) => sum + weights[id]!, 0);
  let sum = 0;
  return weights.map((weight, id) => {
    sum += kept.has(id) ? weight / total : 0;
    return sum;
  });
}

test('a vocabulary of 50,001: the token whose share the number falls into, to 1e-4', async () => {
  const normal = seededRandom(3);
  const values = Float32Array.from({ length: 50_001 }, () => 4 * (normal() + normal() + normal() - 1.5));
  const count = 40;
  const rows = new Array<Float32Array>(count).fill(values);
  const randoms = randomsOf(count, 11);
  for (const options of [
    {},
    { topK: 40 },
    { topP: 0.9 },
    { topK: 1000, topP: 0.5 },
    { temperature: 0.3, topP: 0.7 },
  ]) {
    const tokens = await drawn(rows, randoms, { temperature: 1, ...options });
    const sums = cumulative(values, options);
    for (const [i, token] of tokens.entries()) {
      const at = randoms[i]! / 2 ** 32;
      const [from, to] = [token > 0 ? sums[token - 1]! : 0, sums[token]!];
      assert.ok(at > from - 1e-4 && at < to + 1e-4, `${JSON.stringify(options)}: ${at} in ${from} .. ${to}`);
      assert.ok(to > from, `token ${token} is kept`);
    }
  }
});

test('NaN or infinite logits and wrong options are typed errors', async () => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    const rows = [Float32Array.from([1, 2, bad]), Float32Array.from([1, 90, 3])];
    assert.equal([...(await drawn(rows, randomsOf(2), { temperature: 1, topP: 0.9 }))], [NOT_FINITE, 1]);
  }
  const wrong = [
    ...[{ temperature: -1 }, { temperature: Number.NaN }, { topP: 0 }, { topP: 1.5 }, { topK: 1.5 }],
    ...[{ repeatPenalty: 0 }, { repeatPenalty: -1 }],
  ];
  for (const options of wrong) await rejectsWith(() => samplingOf(options), 'INVALID_ARGUMENT');
});

test("the repeat penalty is transformers' repetition_penalty", () => {
  // RepetitionPenaltyLogitsProcessor: score / penalty above 0, score * penalty below, once for each token of the text.
  const changed = logits.slice();
  penalizeRepeats(changed, [1, 2, 1, 1], 4);
  assert.equal(Array.from(changed), [1, 3 / 4, -2 * 4, 2, 0.5]);
});

test.run();
