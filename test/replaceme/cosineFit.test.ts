import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32 } from '../../engine/index.js';
import { Model } from '../../model/index.js';
import { fitCosine } from '../../replaceme/fits/cosineFit.js';
import { checkPruneRequest } from '../../replaceme/index.js';
import { methodNamed } from '../../replaceme/methods/index.js';
import { type CosineSettings, cosineSettings } from '../../replaceme/options/pruneOptions.js';
import { maxAbsError, rejectsWith, relativeError } from '../gpu.js';
import { dot, HIDDEN, type Rows, rowsOf, weightedBatches } from './fitRows.js';
import { openPass, repairContext, workplace } from './workplace.js';

const WINDOW = { layer: 2, count: 2 };

/** Output M T (+ Y) and goal of a token. */
function apply({ m, y, target }: Rows[number], transform: Float64Array, equation: 7 | 8) {
  const output = equation === 7 ? y.slice() : new Float64Array(HIDDEN);
  for (let i = 0; i < HIDDEN; i++)
    for (let j = 0; j < HIDDEN; j++) output[j]! += m[i]! * transform[i * HIDDEN + j]!;
  return { output, goal: equation === 7 ? target : target.map((value, j) => value - y[j]!) };
}

function meanLoss(rows: Rows, transform: Float64Array, equation: 7 | 8): number {
  let [sum, weights] = [0, 0];
  for (const row of rows) {
    const { output, goal } = apply(row, transform, equation);
    sum += row.weight * (1 - dot(output, goal) / Math.sqrt(dot(output, output) * dot(goal, goal)));
    weights += row.weight;
  }
  return sum / weights;
}

const identity = () =>
  Float64Array.from({ length: HIDDEN * HIDDEN }, (_, at) => (at % (HIDDEN + 1) === 0 ? 1 : 0));

/** The fit in f64, tokens in order: Adam as its paper writes it. */
function fitF64(rows: Rows, { equation, epochs, learningRate, l1, l2 }: CosineSettings): Float64Array {
  const transform = identity();
  const [first, second] = [new Float64Array(transform.length), new Float64Array(transform.length)];
  let step = 0;
  for (let epoch = 0; epoch < epochs; epoch++) {
    for (let start = 0; start < rows.length; start += 1024) {
      const batch = rows.slice(start, start + 1024);
      const gradient = transform.map(value => l1 * Math.sign(value) + 2 * l2 * value);
      for (const row of batch) {
        const { output, goal } = apply(row, transform, equation);
        const [outputNorm, goalNorm] = [Math.sqrt(dot(output, output)), Math.sqrt(dot(goal, goal))];
        const cosine = dot(output, goal) / (outputNorm * goalNorm);
        for (let j = 0; j < HIDDEN; j++) {
          const slope = ((cosine * output[j]!) / outputNorm - goal[j]! / goalNorm) / outputNorm;
          const share = (row.weight * slope) / batch.length;
          for (let i = 0; i < HIDDEN; i++) gradient[i * HIDDEN + j]! += row.m[i]! * share;
        }
      }
      step++;
      for (const [at, g] of gradient.entries()) {
        first[at] = 0.9 * first[at]! + 0.1 * g;
        second[at] = 0.999 * second[at]! + 0.001 * g * g;
        const unbiased = Math.sqrt(second[at]! / (1 - 0.999 ** step));
        transform[at]! -= (learningRate * (first[at]! / (1 - 0.9 ** step))) / (unbiased + 1e-8);
      }
    }
  }
  return transform;
}

const minusIdentity = (transform: ArrayLike<number>) => identity().map((value, at) => transform[at]! - value);

let place: Awaited<ReturnType<typeof workplace>>;
let device: Device;
let model: Model;
test.before(async () => {
  place = await workplace();
  device = await Device.open();
  model = await Model.load(device, place.model, { dtype: 'f32' });
});
test.after(async () => {
  model.dispose();
  await device.close();
  place[Symbol.dispose]();
});

for (const change of [
  { equation: 7 },
  { equation: 8 },
  { equation: 7, l2: 3e-4 },
  { equation: 8, l1: 2e-4, learningRate: 1e-3 },
] as const) {
  test(`T and losses of an f64 fit, weighted tokens: ${JSON.stringify(change)}`, async () => {
    // Two steps an epoch, the second of 76 tokens.
    const batches = weightedBatches(1100);
    const settings = cosineSettings({ epochs: 4, learningRate: 5e-3, shuffle: false, ...change });
    using pass = await openPass(model, batches, WINDOW);
    const rows = await rowsOf(pass);
    const before = device.memory.liveBytes;
    const fit = await fitCosine(pass, settings);
    const transform = await downloadF32(fit.transform);
    fit.transform.dispose();
    assert.is(device.memory.liveBytes, before, 'nothing leaks');

    const expected = fitF64(rows, settings);
    const error = relativeError(minusIdentity(transform), minusIdentity(expected));
    assert.ok(error < 1e-3, `T - I off by ${error}`);
    const { equation } = settings;
    assert.ok(Math.abs(fit.lossBefore - meanLoss(rows, identity(), equation)) < 1e-6);
    assert.ok(Math.abs(fit.lossAfter - meanLoss(rows, expected, equation)) < 1e-6);
    assert.ok(fit.lossAfter < fit.lossBefore);
  });
}

test('a shuffled epoch draws every token once, in another order for another seed', async () => {
  const fitted = async (tokens: number, change: Partial<CosineSettings>) => {
    using pass = await openPass(model, weightedBatches(tokens), WINDOW);
    using transform = (await fitCosine(pass, cosineSettings({ epochs: 3, equation: 7, ...change })))
      .transform;
    return await downloadF32(transform);
  };
  // One batch holds all tokens: their order is rounding.
  const inOrder = minusIdentity(await fitted(1000, { shuffle: false }));
  const shuffled = minusIdentity(await fitted(1000, { seed: 1 }));
  const sameTokens = relativeError(shuffled, inOrder);
  assert.ok(sameTokens < 1e-3, `${sameTokens}`);

  const first = await fitted(1100, { seed: 1 });
  assert.equal(await fitted(1100, { seed: 1 }), first, 'the same seed, the same bits');
  assert.ok(maxAbsError(await fitted(1100, { seed: 2 }), first) > 1e-5);
  assert.ok(maxAbsError(await fitted(1100, { shuffle: false }), first) > 1e-5);
});

test("the least-squares scale multiplies Adam's T by <M T, L - Y> / |M T|²", async () => {
  const batches = weightedBatches(500);
  using pass = await openPass(model, batches, WINDOW);
  const settings = { epochs: 2, learningRate: 1e-3 };
  const fit = await fitCosine(pass, cosineSettings(settings));
  const transform = Float64Array.from(await downloadF32(fit.transform));
  fit.transform.dispose();
  let [product, square] = [0, 0];
  for (const row of await rowsOf(pass)) {
    const { output, goal } = apply(row, transform, 8);
    product += row.weight * dot(output, goal);
    square += row.weight * dot(output, output);
  }
  const expected = product / square;
  assert.ok(Math.abs(expected - 1) > 0.01, 'it matters here');
  assert.ok(Math.abs(fit.leastSquaresScale! / expected - 1) < 1e-5);

  const down = async (scale: CosineSettings['scale']) => {
    const context = repairContext(model, batches, { cosine: { ...settings, scale } });
    const { changes, details } = await methodNamed('replaceme-cosine').repair(context, [WINDOW]);
    assert.is(details.scale, scale);
    using tensor = changes.layers!.get(WINDOW.layer)!.down!;
    return await downloadF32(tensor);
  };
  const paper = await down('paper');
  const scaled = await down('least-squares');
  assert.ok(
    relativeError(
      scaled,
      paper.map(value => value * expected),
    ) < 1e-5,
  );
});

test('several windows, with the numbers of each', async () => {
  const context = repairContext(model, weightedBatches(300), { cosine: { epochs: 2 } });
  const windows = [
    { layer: 0, count: 1 },
    { layer: 3, count: 2 },
  ];
  const { changes, details } = await methodNamed('replaceme-cosine').repair(context, windows);
  for (const { layer } of windows) {
    changes.layers!.get(layer)!.down!.dispose();
    assert.ok(Number(details[`${layer}: lossAfter`]) < Number(details[`${layer}: lossBefore`]));
  }
});

test('settings that make no sense are refused, and a fit that diverges', async () => {
  const wrong: Record<string, unknown>[] = [
    { equation: 9 },
    { epochs: 0 },
    { learningRate: 0 },
    { l1: -1 },
    { l2: Number.NaN },
    { seed: 0.5 },
    { scale: 'free' },
    { equation: 7, scale: 'least-squares' },
  ];
  for (const cosine of wrong) {
    const options = { layers: 2, method: 'replaceme-cosine', cosine };
    await rejectsWith(
      () => checkPruneRequest(place.model, join(place.path, 'refused'), options),
      'INVALID_ARGUMENT',
    );
  }
  using pass = await openPass(model, weightedBatches(100), WINDOW);
  const before = device.memory.liveBytes;
  const settings = cosineSettings({ learningRate: 1e38 });
  assert.match(await rejectsWith(() => fitCosine(pass, settings), 'NOT_FINITE'), 'layer 2');
  assert.is(device.memory.liveBytes, before);
});

test.run();
