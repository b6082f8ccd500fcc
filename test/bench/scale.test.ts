import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { growthOf, powerLaw } from '../../bench/scaleFit.js';
import { forecasts } from '../../bench/scaleForecast.js';
import type { ScalePoint } from '../../bench/scalePoint.js';
import { ownCache, rmEngine } from '../cli/support.js';
import { temporaryFolder } from '../support.js';

test('a power law is found exactly, with noise nearly, and a constant is no growth', () => {
  const at = (f: (x: number) => number) => powerLaw([1, 2, 4, 8, 16].map(x => ({ x, y: f(x) })));
  const cubic = at(x => 0.3 * x ** 3);
  assert.ok(Math.abs(cubic.exponent - 3) < 1e-12 && Math.abs(cubic.r2 - 1) < 1e-12);
  const inverse = at(x => 5 / x);
  assert.ok(Math.abs(inverse.exponent + 1) < 1e-12);
  assert.ok(Math.abs(at(() => 7).exponent) < 1e-12);
  // Closed form of three points: slope (ln y3 - ln y1) / (2 ln 2).
  const noisy = powerLaw([
    { x: 1, y: 1 },
    { x: 2, y: 3 },
    { x: 4, y: 5 },
  ]);
  assert.ok(Math.abs(noisy.exponent - Math.log(5) / (2 * Math.LN2)) < 1e-12);
  assert.ok(noisy.r2 < 1);
});

test('growth is fitted by axis, where there are two values at least and none is 0', () => {
  const base = { tokens: 1024, layers: 4, hidden: 256, shards: 1, files: 1 };
  const times = { seconds: 1, load: 1, sums: 1, solve: 0, deviceBytes: 1, hostBytes: 1 };
  const points: ScalePoint[] = [1, 2, 4].map(k => ({
    ...{ axis: 'tokens', sizes: { ...base, tokens: 1024 * k }, ...times, forward: 3 * k },
  }));
  points.push({ axis: 'layers', sizes: base, ...times, forward: 3 });
  const growth = growthOf(points);
  assert.equal([...new Set(growth.map(({ axis }) => axis))], ['tokens']);
  assert.not(growth.some(({ quantity }) => quantity === 'solve'));
  const forward = growth.find(({ quantity }) => quantity === 'forward')!;
  assert.ok(Math.abs(forward.exponent - 1) < 1e-12);
  assert.is(forward.expected, '1');
});

test('forecasts: parameters and arithmetic of the published models', () => {
  const [small, large] = forecasts();
  // 8.03e9 and 70.6e9 parameters in bf16, norms left out; 13.96 + 0.27 GF a token.
  assert.ok(Math.abs(small!.weightBytes / (2 * 8.03e9) - 1) < 1e-3);
  assert.ok(Math.abs(large!.weightBytes / (2 * 70.55e9) - 1) < 1e-3);
  assert.ok(Math.abs(small!.forwardFlops / (14.23e9 * 2 ** 20) - 1) < 1e-3);
  // At 40 to 80 TFLOP/s, as WGSL may reach on an H100.
  for (const { forwardFlops, forwardSeconds } of [small!, large!]) {
    const rate = forwardFlops / forwardSeconds / 1e12;
    assert.ok(rate > 40 && rate < 80, `${rate}`);
  }
  assert.is(small!.statesBytes, 2 ** 20 * 4096 * 4);
});

test('bench scale measures what it is asked for', async () => {
  using cache = temporaryFolder();
  const args = [
    'bench',
    'scale',
    '--tokens',
    '512,1024',
    '--hidden',
    '64',
    '--shards',
    '2',
    '--samples',
    '1',
  ];
  const { status, stdout, stderr } = await rmEngine([...args, '--json'], { env: ownCache(cache.path) });
  assert.is(status, 0, stderr);
  const { points, growth } = JSON.parse(stdout);
  assert.equal(
    points.map((point: ScalePoint) => [point.axis, point.sizes[point.axis]]),
    [
      ['tokens', 512],
      ['tokens', 1024],
      ['hidden', 64],
      ['shards', 2],
    ],
  );
  for (const point of points) {
    for (const key of ['seconds', 'load', 'forward', 'sums', 'deviceBytes', 'hostBytes']) {
      assert.ok(point[key] > 0, `${point.axis} ${key}: ${point[key]}`);
    }
  }
  // What is resident at 1024 tokens is what is resident at 512, and more.
  assert.ok(points[1].deviceBytes >= points[0].deviceBytes);
  assert.ok(growth.length >= 5);
  const wrong = await rmEngine(['bench', 'scale', '--hidden', '100']);
  assert.is(wrong.status, 2);
});

test.run();
