import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32 } from '../../engine/index.js';
import { Model } from '../../model/index.js';
import { orthogonalFactor } from '../../replaceme/fits/orthogonalFactor.js';
import { methodNamed } from '../../replaceme/methods/index.js';
import { normals, rejectsWith, relativeError } from '../gpu.js';
import { polarF64 } from '../kernels/polarF64.js';
import { dot, HIDDEN, type Rows, rowsOf, weightedBatches } from './fitRows.js';
import { openPass, repairContext, workplace } from './workplace.js';

const WINDOW = { layer: 2, count: 2 };

/** Sum over tokens of weight a' b, [HIDDEN, HIDDEN]. */
function products(rows: Rows, a: (row: Rows[number]) => Float64Array, b: typeof a): Float64Array {
  const sums = new Float64Array(HIDDEN * HIDDEN);
  for (const row of rows) {
    const [left, right] = [a(row), b(row)];
    for (let i = 0; i < HIDDEN; i++)
      for (let j = 0; j < HIDDEN; j++) sums[i * HIDDEN + j]! += row.weight * left[i]! * right[j]!;
  }
  return sums;
}

const goal = ({ target, y }: Rows[number]) => target.map((value, j) => value - y[j]!);

/** |M T - (L - Y)| / |L - Y| with the tokens' weights. */
function residual(rows: Rows, transform: Float64Array): number {
  let [error, size] = [0, 0];
  for (const row of rows) {
    const wanted = goal(row);
    const gap = wanted.map(
      (value, j) => value - row.m.reduce((sum, m, i) => sum + m * transform[i * HIDDEN + j]!, 0),
    );
    error += row.weight * dot(gap, gap);
    size += row.weight * dot(wanted, wanted);
  }
  return Math.sqrt(error / size);
}

const identity = Float64Array.from({ length: HIDDEN * HIDDEN }, (_, at) => (at % (HIDDEN + 1) ? 0 : 1));

const solutions: Record<string, (rows: Rows) => Float64Array> = {
  'replaceme-diagonal': rows => {
    const [gram, right] = [
      products(
        rows,
        row => row.m,
        row => row.m,
      ),
      products(rows, row => row.m, goal),
    ];
    return identity.map((one, at) => (one ? right[at]! / gram[at]! : 0));
  },
  'replaceme-orthogonal': rows =>
    polarF64(
      products(rows, row => row.m, goal),
      HIDDEN,
    ),
};

for (const [name, solution] of Object.entries(solutions)) {
  test(`${name}: the f64 solution, folded, and its residual`, async () => {
    using place = await workplace();
    await using device = await Device.open();
    {
      using model = await Model.load(device, place.model, { dtype: 'f32' });
      const batches = weightedBatches(700);
      using pass = await openPass(model, batches, WINDOW);
      const rows = await rowsOf(pass);
      const { changes, details } = await methodNamed(name).repair(repairContext(model, batches), [WINDOW]);
      using down = changes.layers!.get(WINDOW.layer)!.down!;
      const transform = solution(rows);
      const weight = await downloadF32(model.weights.layers[WINDOW.layer]!.down);
      const inputs = weight.length / HIDDEN;
      const expected = Float64Array.from(weight, (_, at) => {
        const [row, column] = [Math.floor(at / inputs), at % inputs];
        let sum = 0;
        for (let i = 0; i < HIDDEN; i++) sum += transform[i * HIDDEN + row]! * weight[i * inputs + column]!;
        return sum;
      });
      const error = relativeError(await downloadF32(down), expected);
      assert.ok(error < 1e-4, `down_proj off by ${error}`);
      assert.is(details.tokens, 700);
      assert.ok(Math.abs(Number(details.relativeResidual) - residual(rows, transform)) < 1e-5);
      assert.ok(Math.abs(Number(details.plainRelativeResidual) - residual(rows, identity)) < 1e-5);
    }
    assert.is(device.memory.liveBytes, 0);
  });
}

test('the orthogonal factor of a matrix with singular values far above the others', async () => {
  await using device = await Device.open();
  const n = 40;
  const values = Float64Array.from(normals(n * n, 1));
  for (const [k, size] of [1e9, 3e8, 1e5].entries()) {
    const [u, v] = [normals(n, 10 + k), normals(n, 20 + k)];
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) values[i * n + j]! += size * u[i]! * v[j]!;
  }
  const { factor } = await orthogonalFactor(device, values, n, 'A');
  using _ = factor;
  const error = relativeError(await downloadF32(factor), polarF64(values, n, 48));
  assert.ok(error < 2e-5, `${error}`);
});

test('a matrix of lower rank has no orthogonal factor', async () => {
  await using device = await Device.open();
  const n = 24;
  const values = Float64Array.from(normals(n * n, 1), (value, at) => (at % n === 5 ? 0 : value));
  await rejectsWith(() => orthogonalFactor(device, values, n, 'A'), 'NOT_CONVERGED');
  await rejectsWith(() => orthogonalFactor(device, new Float64Array(n * n), n, 'A'), 'NOT_CONVERGED');
  assert.is(device.memory.liveBytes, 0);
});

test.run();
