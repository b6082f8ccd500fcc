/**
 * `transpose`, `slice`, `concat`, `gatherRows`, `scatterAddRows` and batches of `matmul`: cases against the host, and what is
 * refused. Costs 5 s.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { downloadF32, downloadU32, Scope, tensorFrom } from '../../engine/index.js';
import { batchCases, layoutCases } from '../../kernels/cases/layout.js';
import { gatherRows } from '../../kernels/layout/gatherRows.js';
import { concat, slice, transpose } from '../../kernels/layout/layout.js';
import { scatterAddRows } from '../../kernels/layout/scatterAddRows.js';
import { matmul } from '../../kernels/matmul/matmul.js';
import { rejectsWith } from '../gpu.js';
import { testCases } from './runCases.js';

const device = testCases([...layoutCases, ...batchCases]);

test('ids beyond the table give NaN or the largest integer, and add nothing', async () => {
  using scope = new Scope(device());
  const rec = device().recorder;
  const ids = scope.own(tensorFrom(device(), Uint32Array.of(1, 7, 0)));
  const table = scope.own(tensorFrom(device(), Float32Array.of(1, 2, 3, 4), [2, 2]));
  const out = scope.tensor([3, 2]);
  gatherRows(rec, table, ids, out);
  assert.equal([...(await downloadF32(out))], [3, 4, Number.NaN, Number.NaN, 1, 2]);
  const integers = scope.own(tensorFrom(device(), Uint32Array.of(5, 6), [2, 1]));
  const found = scope.tensor([3, 1], 'u32');
  gatherRows(rec, integers, ids, found);
  assert.equal([...(await downloadU32(found))], [6, 0xffffffff, 5]);
  const ones = scope.own(tensorFrom(device(), new Float32Array(6).fill(1), [3, 2]));
  scatterAddRows(rec, ones, ids, table);
  assert.equal([...(await downloadF32(table))], [2, 3, 4, 5]);
});

test('what does not fit is refused when it is recorded', async () => {
  using scope = new Scope(device());
  const rec = device().recorder;
  const t = (...shape: number[]) => scope.tensor(shape);
  const ids = scope.tensor([4], 'u32');
  const x = t(4, 8);
  const wrong: [RegExp, () => void][] = [
    [/'out' is \[4,8\]/, () => transpose(rec, x, t(4, 8))],
    [/`axes` is \[0,0\]/, () => transpose(rec, x, t(8, 4), [0, 0])],
    [/`axes` is \[0\]/, () => transpose(rec, x, t(8, 4), [0])],
    [/axes is/, () => transpose(rec, x, t(8, 4), 3 as never)],
    [/'temporary' is \[3\]/, () => transpose(rec, t(3), t(3))],
    [/share a buffer/, () => transpose(rec, x, x.reshape([8, 4]))],
    [/of a float dtype is needed/, () => transpose(rec, x, scope.tensor([8, 4], 'u32'))],
    [/4 elements from 5/, () => slice(rec, x, t(4, 4), { start: 5 })],
    [/start is -1/, () => slice(rec, x, t(4, 4), { start: -1 })],
    [/step is 0/, () => slice(rec, x, t(4, 4), { step: 0 })],
    [/`axis` is 2/, () => slice(rec, x, t(4, 4), { axis: 2 })],
    [/'out' is \[3,4\]/, () => slice(rec, x, t(3, 4))],
    [/'tensors' is empty/, () => concat(rec, [], x)],
    [/'tensors' is object/, () => concat(rec, x as never, x)],
    [/does not fit/, () => concat(rec, [t(4, 3), t(4, 4)], x)],
    [/does not fit/, () => concat(rec, [t(4, 4), scope.tensor([4, 4], 'u32')], x)],
    [/'tensors\[1\]'/, () => concat(rec, [t(4, 4), 5 as never], x)],
    [/'ids'/, () => gatherRows(rec, x, t(4), t(4, 8))],
    [/'out'/, () => gatherRows(rec, x, ids, t(4, 7))],
    [/'out'/, () => gatherRows(rec, x, ids, scope.tensor([4, 8], 'u32'))],
    [/'ids'/, () => scatterAddRows(rec, x, scope.tensor([3], 'u32'), t(9, 8))],
    [/'out'/, () => scatterAddRows(rec, x, ids, t(9, 7))],
    [/has batches \[2\] and \[3\]/, () => matmul(rec, t(2, 4, 8), t(3, 8, 5), t(3, 4, 5))],
    [/into 'temporary' \[12,5\]/, () => matmul(rec, t(3, 4, 8), t(3, 8, 5), t(12, 5))],
    [/inner extents 8 and 7/, () => matmul(rec, t(3, 4, 8), t(3, 7, 5), t(3, 4, 5))],
    [/lower triangle/, () => matmul(rec, t(3, 4, 8), t(3, 8, 4), t(3, 4, 4), { lower: true })],
  ];
  for (const [message, work] of wrong) assert.match(await rejectsWith(work, 'INVALID_ARGUMENT'), message);
});

test.run();
