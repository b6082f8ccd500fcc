/** The number of layers that a budget allows, against curves whose answer is known. Host code; no time at all. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { seededRandom } from '../../engine/random.js';
import { searchLayers, usedShare } from '../../replaceme/pruning/searchLayers.js';
import { hasBudget } from '../../replaceme/request/layerBudget.js';
import { checkPruneRequest } from '../../replaceme/request/request.js';
import { workplace } from './workplace.js';

/** Searches on a curve of KL; returns the tried numbers too. */
async function search(most: number, maxKl: number, kl: (layers: number) => number) {
  const tried: number[] = [];
  const { layers, trials } = await searchLayers(most, { maxKl }, async n => {
    assert.ok(n >= 1 && n <= most && !tried.includes(n), `${n} of ${tried}`);
    tried.push(n);
    return { layers: n, kl: kl(n), top1: 1 - kl(n) / 4 };
  });
  assert.equal(
    trials.map(trial => trial.layers),
    [...tried].sort((a, b) => a - b),
  );
  return { layers, tried };
}

test('the largest number within the budget, on any rising curve', async () => {
  const random = seededRandom(1);
  for (let c = 0; c < 200; c++) {
    const most = 1 + Math.floor(random() * 47);
    const [scale, power] = [0.001 + random() / 10, 0.3 + 3 * random()];
    const curve = Array.from({ length: most + 1 }, (_, n) => scale * n ** power * (1 + random() / 1000));
    const sorted = [...curve].sort((a, b) => a - b);
    const bound = 0.01 + random();
    const { layers, tried } = await search(most, bound, n => sorted[n]!);
    assert.is(layers, sorted.filter(kl => kl <= bound).length - Number(sorted[0]! <= bound), `${sorted}`);
    assert.ok(tried.length <= 12, `${tried.length} tries for ${most} layers`);
  }
});

test('few tries where damage grows as measured on SmolLM2', async () => {
  const { layers, tried } = await search(29, 0.5, n => 0.3625 * (n / 4) ** 1.15);
  assert.is(layers, 5);
  assert.ok(tried.length <= 4, `${tried}`);
});

test('no number within the budget; all within it', async () => {
  assert.is((await search(11, 0.1, () => 5)).layers, 0);
  assert.is((await search(11, 9, n => n / 100)).layers, 11);
  assert.is((await search(1, 9, () => 0)).layers, 1);
});

test('a curve that is not rising ends, at a number within the budget', async () => {
  const kl = (n: number) => (n % 2 === 0 ? 0.1 : 0.9);
  const { layers } = await search(20, 0.5, kl);
  assert.ok(layers > 0 && kl(layers) <= 0.5);
});

test('a budget of equal next tokens', () => {
  assert.is(usedShare({ kl: 9, top1: 0.9 }, { keepTop1: 0.8 }).toFixed(3), '0.500');
  assert.is(usedShare({ kl: 0.6, top1: 0 }, { maxKl: 0.3 }), 2);
});

test('one budget alone, without a number of layers', () => {
  const refuses = (options: object, pattern: RegExp) =>
    assert.throws(
      () => hasBudget(options),
      (error: Error) => pattern.test(error.message),
    );
  assert.is(hasBudget({}), false);
  assert.is(hasBudget({ maxKl: 0.3 }), true);
  refuses({ maxKl: 0.3, layers: 2 }, /both `maxKl` and `layers`/);
  refuses({ keepTop1: 0.9, window: 2 }, /both `keepTop1` and `window`/);
  refuses({ targetBytes: 9, remove: [2] }, /both `targetBytes` and `remove`/);
  refuses({ maxKl: 0.3, targetParameters: 9 }, /both `maxKl` and `targetParameters`/);
  refuses({ maxKl: 0.3, windows: 2 }, /may not divide/);
});

test('a size in bytes or parameters takes the fewest layers that reach it', async () => {
  using place = await workplace();
  const count = async (options: object) => (await checkPruneRequest(place.model, undefined, options)).count;
  // q, k, v, o; gate, up, down; two norms. Embedding and last norm besides, in bf16.
  const perLayer = 32 * (32 + 16 + 16 + 32) + 3 * 32 * 48 + 2 * 32;
  const parameters = 6 * perLayer + 260 * 32 + 32;
  for (let n = 1; n < 6; n++) {
    const left = parameters - n * perLayer;
    assert.is(await count({ targetParameters: left }), n);
    assert.is(await count({ targetParameters: left + perLayer - 1 }), n, 'one layer fewer is not enough');
    assert.is(await count({ targetBytes: 2 * left }), n);
    assert.is(await count({ targetBytes: 4 * left, dtype: 'f32' }), n, 'in the type that is written');
  }
  for (const [options, message] of [
    [{ targetParameters: parameters }, /parameters already/],
    [{ targetParameters: 10 }, /with a single layer the model still has/],
    [{ targetBytes: 10 }, /with a single layer the model still has \d+ bytes/],
  ] as const) {
    await count(options).then(
      () => assert.unreachable(),
      (error: Error) => assert.match(error.message, message),
    );
  }
});

test.run();
