/**
 * `reduce`, `softmax`, `logSoftmax` and `topK`: cases against f64, NaN and infinity, expressions, what is refused. Costs 6 s.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, downloadU32, Scope, tensorFrom } from '../../engine/index.js';
import { reduceCases } from '../../kernels/cases/reduce.js';
import { reduce } from '../../kernels/reduce/reduce.js';
import { logSoftmax, softmax } from '../../kernels/reduce/softmax.js';
import { topK } from '../../kernels/reduce/topK.js';
import { normals, rejectsWith } from '../gpu.js';
import { testCases } from './runCases.js';

const device = testCases(reduceCases);
const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

test('NaN and infinity: max and min keep both, softmax of -infinity is 0', async () => {
  using scope = new Scope(device());
  const rec = device().recorder;
  const rows = [
    [1, nan, 3, -4],
    [-infinity, -infinity, -infinity, -infinity],
    [infinity, 1, -infinity, 0],
    [-0, 0, -0, -0],
    [-infinity, 2, -infinity, 2],
  ];
  for (const axis of ['last', 'first'] as const) {
    const values = axis === 'last' ? rows.flat() : [0, 1, 2, 3].flatMap(j => rows.map(row => row[j]!));
    const x = scope.own(tensorFrom(device(), Float32Array.from(values), axis === 'last' ? [5, 4] : [4, 5]));
    const out = scope.tensor([5]);
    reduce(rec, 'max', x, out, { axis });
    assert.equal([...(await downloadF32(out))], [nan, -infinity, infinity, 0, 2]);
    reduce(rec, 'min', x, out, { axis });
    assert.equal([...(await downloadF32(out))], [nan, -infinity, -infinity, -0, -infinity]);
  }
  const x = scope.own(tensorFrom(device(), Float32Array.from(rows.flat()), [5, 4]));
  softmax(rec, x, x);
  const soft = [...(await downloadF32(x))];
  assert.ok(soft.slice(0, 12).every(Number.isNaN), `${soft}`);
  assert.equal(soft.slice(16), [0, 0.5, 0, 0.5]);
  const y = scope.own(tensorFrom(device(), Float32Array.of(-infinity, 0, -200, 0), [1, 4]));
  logSoftmax(rec, y, y);
  const half = Math.fround(-Math.log(2));
  const logs = [...(await downloadF32(y))];
  assert.is(logs[0], -infinity);
  for (const [i, expected] of [half, -200 + half, half].entries())
    assert.ok(Math.abs(logs[i + 1]! - expected) < 1e-4, `${logs}`);
});

test('expressions are computed while they are reduced', async () => {
  using scope = new Scope(device());
  const rec = device().recorder;
  const [a, b] = [normals(60, 1), normals(5, 2)];
  const x = scope.own(tensorFrom(device(), a, [3, 4, 5]));
  const row = scope.own(tensorFrom(device(), b));
  const out = scope.tensor([3, 4]);
  reduce(rec, 'sum', { map: '(x - r) ** 2 * k', inputs: { x, r: row, k: 2 } }, out);
  const expected = Array.from({ length: 12 }, (_, i) =>
    b.reduce((sum, r, j) => sum + 2 * (a[5 * i + j]! - r) ** 2, 0),
  );
  for (const [i, value] of (await downloadF32(out)).entries())
    assert.ok(Math.abs(value - expected[i]!) < 1e-5 * expected[i]!);
  const norm = scope.tensor([1]);
  const root = { start: 0, combine: 'a + b', finish: 'sqrt(total)' };
  reduce(rec, root, { map: 'x * x', inputs: { x: x.reshape([60]) } }, norm);
  assert.ok(Math.abs((await downloadF32(norm))[0]! - Math.hypot(...a)) < 1e-5);
  reduce(rec, { start: 1, combine: 'a * b' }, row, norm);
  assert.ok(Math.abs((await downloadF32(norm))[0]! - b.reduce((p, v) => p * v, 1)) < 1e-6);
  const scores = scope.tensor([3, 4, 5]);
  softmax(rec, { map: 'column > row % 4 ? -infinity : x * k', inputs: { x, k: 0.5 } }, scores);
  const soft = await downloadF32(scores);
  assert.equal([...soft.slice(0, 5)], [1, 0, 0, 0, 0], 'a causal mask');
});

test('topK: equal elements in their order, NaN first, values of the dtype', async () => {
  using scope = new Scope(device());
  const x = scope.own(tensorFrom(device(), Float32Array.of(1, 3, -0, 3, nan, 0, infinity, 3), [8]));
  const [values, indices] = [scope.tensor([6]), scope.tensor([6], 'u32')];
  topK(device().recorder, x, values, indices);
  assert.equal([...(await downloadU32(indices))], [4, 6, 1, 3, 7, 0]);
  assert.equal([...(await downloadF32(values))], [nan, infinity, 3, 3, 3, 1]);
});

test('what does not fit is refused when it is recorded', async () => {
  using scope = new Scope(device());
  const rec = device().recorder;
  const t = (...shape: number[]) => scope.tensor(shape);
  const x = t(4, 8);
  const one = t(1);
  const u = scope.tensor([4, 8], 'u32');
  const indices = scope.tensor([4, 2], 'u32');
  const wrong: [RegExp, () => void][] = [
    [/'out' is \[8\]/, () => reduce(rec, 'sum', x, t(8))],
    [/'out' is \[4\]/, () => reduce(rec, 'sum', x, t(4), { axis: 'first' })],
    [/no reduction 'median'/, () => reduce(rec, 'median' as never, x, t(4))],
    [/no reduction 'constructor'/, () => reduce(rec, 'constructor' as never, x, t(4))],
    [/no `combine`/, () => reduce(rec, {} as never, x, t(4))],
    [/no `combine`/, () => reduce(rec, null as never, x, t(4))],
    [/axis is 2/, () => reduce(rec, 'sum', x, t(4), { axis: 2 as never })],
    [/no elements/, () => reduce(rec, 'sum', t(4, 0), t(4))],
    [/combine: there is no 'c'/, () => reduce(rec, { start: 0, combine: 'a + c' }, x, t(4))],
    [/does not read 'b'/, () => reduce(rec, { start: 0, combine: 'a' }, x, t(4))],
    [/mean of integers/, () => reduce(rec, 'mean', u, scope.tensor([4], 'u32'))],
    [/an integer, a float is needed/, () => reduce(rec, 'sum', u, t(4))],
    [/cannot be accumulated/, () => reduce(rec, 'mean', x, t(4), { accumulate: true })],
    [/no tensor and no expression/, () => reduce(rec, 'sum', 5 as never, t(4))],
    [/reads no tensor/, () => reduce(rec, 'sum', { map: '1', inputs: {} }, t(4))],
    [/spread over each other/, () => reduce(rec, 'sum', { map: 'x*y', inputs: { x, y: t(3, 8) } }, t(4))],
    [/input and output/, () => reduce(rec, 'sum', one, one)],
    [/'out' is \[8,4\]/, () => softmax(rec, x, t(8, 4))],
    [/'out' is \[4,8\] u32/, () => softmax(rec, x, u)],
    [/this is an integer/, () => softmax(rec, u, x)],
    [/the 9 largest of 8/, () => topK(rec, x, t(4, 9), indices)],
    [/'values' is \[4,2\] f32/, () => topK(rec, u, t(4, 2), indices)],
    [/'indices' is \[4,2\] f32/, () => topK(rec, x, t(4, 2), t(4, 2))],
  ];
  for (const [message, work] of wrong) assert.match(await rejectsWith(work, 'INVALID_ARGUMENT'), message);
  const before = rec.dispatches;
  reduce(rec, 'sum', t(0, 8), t(0));
  softmax(rec, t(0, 8), t(0, 8));
  topK(rec, t(0, 8), t(0, 2), scope.tensor([0, 2], 'u32'));
  assert.is(rec.dispatches, before, 'nothing is recorded where there are no rows');
});

test('rows larger than a binding are reduced in pieces', async () => {
  await using small = await Device.open({ bindingLimit: 1 << 16 });
  using scope = new Scope(small);
  const data = normals(1001 * 77);
  const x = scope.own(tensorFrom(small, data, [1001, 77]));
  const out = scope.tensor([1001]);
  reduce(small.recorder, 'sum', x, out);
  const sums = await downloadF32(out);
  for (const row of [0, 300, 1000]) {
    const expected = data.slice(77 * row, 77 * (row + 1)).reduce((a, b) => a + b, 0);
    assert.ok(Math.abs(sums[row]! - expected) < 1e-4, `row ${row}`);
  }
});

test.run();
