// The model of speed against closed forms and against what others measured on cards. No device is opened. 0.3 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { predictedMilliseconds } from '../../bench/gpuCheck/predictions.js';
import { largeShapes } from '../../bench/largeShapes.js';
import { modelConfigs } from '../../bench/modelConfigs.js';
import { predictCard } from '../../bench/predict.js';
import { architectureFromConfig } from '../../model/index.js';
import { cardOf, cards } from '../../replaceme/planning/cards.js';
import {
  type DeviceSpeed,
  ISSUED,
  MEMORY_SHARE,
  productSeconds,
} from '../../replaceme/planning/deviceSpeed.js';
import { multiplyAddShares } from '../../replaceme/planning/hotLoops.js';
import {
  layerSeconds,
  predictedRates,
  prefillSeconds,
  tokenSeconds,
} from '../../replaceme/planning/layerSpeed.js';
import { layerFlops } from '../../replaceme/run/computeRate.js';

const near = (value: number, expected: number, share: number, what = '') =>
  assert.ok(Math.abs(value / expected - 1) < share, `${what} ${value}, expected ${expected}`);
const llama8B = architectureFromConfig({ ...modelConfigs['Llama-3-8B'] }, 'config.json');

test('a product takes its multiply-adds at the share of its hot loop, or its bytes; a dispatch comes on top', () => {
  const card: DeviceSpeed = { ...cards['3090'], dispatchMicroseconds: 5 };
  const large = { m: 4096, n: 4096, k: 4096 };
  const share = ISSUED * multiplyAddShares.nvidia['tiled 128x128'];
  near(
    productSeconds(card, large, ['f32', 'f32']),
    (2 * 4096 ** 3) / (card.f32Gflops * 1e9 * share) + 5e-6,
    1e-9,
  );
  const one = { m: 1, n: 14_336, k: 4096 };
  const bytes = 4 * 4096 + 2 * 14_336 * 4096 + 4 * 14_336;
  near(
    productSeconds(card, one, ['f32', 'bf16']),
    bytes / (MEMORY_SHARE * card.memoryGigabytes * 1e9) + 5e-6,
    1e-9,
  );
});

test('a product in WGSL on an A100: 14.84 TFLOP/s were reported for 30208 x 256 x 1024 in f32', () => {
  const extents = { m: 30_208, n: 256, k: 1024 };
  const features = { ...cards.a100.features, subgroupMatrix: false };
  const seconds = productSeconds({ ...cards.a100, features }, extents, ['f32', 'f32']);
  near((2 * 30_208 * 256 * 1024) / seconds / 1e12, 14.84, 0.1);
});

test('a token reads all weights and keys once; a prefill and a plan go at the rate of a layer', () => {
  for (const card of Object.values(cards)) {
    const free = { ...card, dispatchMicroseconds: 0, roundTripMicroseconds: 0 };
    const bytes = 2 * (7.505e9 + 0) + 2 * 4 * 2 * 32 * 8 * 128 * 512;
    near(
      tokenSeconds(free, llama8B, 512),
      bytes / (MEMORY_SHARE * card.memoryGigabytes * 1e9),
      0.02,
      card.name,
    );
    const rate = (1024 * 32 * layerFlops(llama8B, 1024).all) / prefillSeconds(free, llama8B, 1024) / 1e9;
    const most = Math.max(card.f32Gflops, (card.matrixGflops ?? 0) / 4);
    assert.ok(rate > 0.3 * card.f32Gflops && rate < most, `${card.name} ${rate}`);
    const { layerGflops, singleGflops } = predictedRates(free, llama8B, {
      batchTokens: 1024,
      sequenceLength: 1024,
    });
    near(layerGflops, rate, 0.05);
    assert.ok(singleGflops! < layerGflops / 4);
  }
});

test('more rows, keys and slower devices take longer', () => {
  const of = (rows: number, keys: number, change: Partial<DeviceSpeed> = {}) =>
    layerSeconds({ ...cards.m2, ...change }, llama8B, { rows, keys });
  assert.ok(of(2048, 1024) > of(1024, 1024));
  assert.ok(of(1024, 1024) > of(1024, 512));
  assert.ok(of(1024, 1024, { f32Gflops: 1000 }) > of(1024, 1024));
  assert.ok(of(1, 1024, { memoryGigabytes: 10 }) > of(1, 1024));
});

test('cards by the names that their drivers give', () => {
  assert.is(cardOf('NVIDIA GeForce RTX 4090'), cards['4090']);
  assert.is(cardOf('AMD Radeon RX 7900 XTX (RADV NAVI31)'), cards['7900xtx']);
  assert.is(cardOf('NVIDIA GeForce RTX 4090 Laptop GPU'), undefined);
  assert.is(cardOf('llvmpipe (LLVM 19.1.7, 256 bits)'), undefined);
});

test('each card has a prediction of the models that fit it', async () => {
  for (const card of [cards.h100, cards.m2]) {
    const { models } = await predictCard(card);
    assert.equal(
      models.map(({ model }) => model),
      ['Llama-3.2-1B', 'Llama-3-8B', 'Llama-3-70B'],
    );
    for (const { prefill, decode, weightBytes, prune } of models) {
      assert.is(prefill === undefined, weightBytes >= card.memory);
      if (decode !== undefined) assert.ok(decode < (1e9 * card.memoryGigabytes) / weightBytes);
      for (const { seconds } of prune?.phases ?? []) assert.ok(Number.isFinite(seconds));
    }
    assert.ok(models[0]!.prune && models[0]!.prefill, card.name);
  }
});

test('gpu-check predicts every kind of kernel that it times but products of columns', () => {
  for (const item of largeShapes({ subgroupMatrix: true })) {
    const milliseconds = predictedMilliseconds(cards.h100, item);
    if (item.name.startsWith('TN')) assert.is(milliseconds, undefined);
    else assert.ok(milliseconds! > item.flops / 620e9, `${item.kernel} ${item.name} ${milliseconds}`);
  }
});

test.run();
