import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createSampler, type SamplingOptions } from '../../model/generation/sampler.js';
import { rejectsWith } from '../gpu.js';

const DRAWS = 20_000;
const logits = Float32Array.from([1, 3, -2, 2, 0.5]);

/** softmax(logits / temperature) over the tokens `keep`, by their definition. */
function expected(keep: readonly number[], temperature = 1): number[] {
  const weights = Array.from(logits, (logit, id) => (keep.includes(id) ? Math.exp(logit / temperature) : 0));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map(weight => weight / total);
}

function frequencies(options: SamplingOptions): number[] {
  const sample = createSampler(options);
  const counts = new Array<number>(logits.length).fill(0);
  for (let i = 0; i < DRAWS; i++) counts[sample(logits)]!++;
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

test('temperature 0 takes the most likely token, the first of equal ones', () => {
  assert.is(createSampler()(logits), 1);
  assert.is(createSampler({ temperature: 0, topK: 3, topP: 0.5, seed: 9 })(logits), 1);
  assert.is(createSampler()(Float32Array.from([0, 7, 7])), 1);
});

test('tokens are drawn by softmax(logits / temperature)', () => {
  assertShares(frequencies({ temperature: 1, seed: 1 }), expected(all));
  assertShares(frequencies({ temperature: 0.5, seed: 2 }), expected(all, 0.5));
  assertShares(frequencies({ temperature: 3, seed: 3 }), expected(all, 3));
});

test('top-k keeps the k most likely tokens', () => {
  assertShares(frequencies({ temperature: 1, topK: 3, seed: 4 }), expected([1, 3, 0]));
  assertShares(frequencies({ temperature: 1, topK: 1, seed: 4 }), expected([1]));
  assertShares(frequencies({ temperature: 1, topK: 50, seed: 4 }), expected(all));
});

test('top-p keeps the most likely tokens that together reach the share', () => {
  // Sorted: 1 (0.61), 3 (0.22), 0 (0.08), 4, 2.
  const [share1, share3] = [expected(all)[1]!, expected(all)[3]!];
  assertShares(frequencies({ temperature: 1, topP: share1 - 0.01, seed: 5 }), expected([1]));
  assertShares(frequencies({ temperature: 1, topP: share1 + 0.01, seed: 5 }), expected([1, 3]));
  assertShares(frequencies({ temperature: 1, topP: share1 + share3 + 0.01, seed: 5 }), expected([1, 3, 0]));
  assertShares(frequencies({ temperature: 1, topP: 1, seed: 5 }), expected(all));
});

test('top-p counts its share within what top-k leaves', () => {
  // Of tokens 1 and 3 the first has exp(3) / (exp(3) + exp(2)) = 0.73.
  assertShares(frequencies({ temperature: 1, topK: 2, topP: 0.7, seed: 6 }), expected([1]));
  assertShares(frequencies({ temperature: 1, topK: 2, topP: 0.75, seed: 6 }), expected([1, 3]));
});

test('the same seed draws the same tokens, another seed others', () => {
  const draw = (seed: number) => {
    const sample = createSampler({ temperature: 1, seed });
    return Array.from({ length: 50 }, () => sample(logits));
  };
  assert.equal(draw(7), draw(7));
  assert.not.equal(draw(7), draw(8));
});

test('logits far apart neither overflow nor lose the largest', () => {
  const far = Float32Array.from([-3e38, 3e38, 0]);
  assert.is(createSampler({ temperature: 1 })(far), 1);
  assert.is(createSampler({ temperature: 1e-9 })(logits), 1);
});

test('NaN or infinite logits and wrong options are typed errors', async () => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    for (const temperature of [0, 1]) {
      const sample = createSampler({ temperature });
      await rejectsWith(() => sample(Float32Array.from([1, 2, bad])), 'NOT_FINITE');
    }
  }
  for (const options of [{ temperature: -1 }, { temperature: Number.NaN }, { topP: 0 }, { topP: 1.5 }]) {
    await rejectsWith(() => createSampler(options), 'INVALID_ARGUMENT');
  }
});

test.run();
