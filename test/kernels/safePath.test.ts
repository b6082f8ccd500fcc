import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, Scope, tensorFrom } from '../../engine/index.js';
import { requireExactArithmetic } from '../../engine/selftest.js';
import { crossGram } from '../../kernels/gram/crossGram.js';
import { gram } from '../../kernels/gram/gram.js';
import {
  clearDoubleSingle,
  createDoubleSingle,
  disposeDoubleSingle,
  downloadF64,
} from '../../kernels/shared/doubleSingle.js';
import { solveSpd } from '../../kernels/solve/solveSpd.js';
import { symmetrize } from '../../kernels/solve/symmetrize.js';
import { breaksFloats, normals } from '../gpu.js';

/** G, C and X = (G + I)⁻¹ C of activations with outlier rows and weights. */
async function statisticsAndSolution(device: Device): Promise<Float64Array[]> {
  const [rows, m, n] = [300, 24, 6];
  const rec = device.recorder;
  using scope = new Scope(device);
  const large = (value: number, i: number) => (i < m ? 1000 * value : value);
  const x = scope.own(tensorFrom(device, normals(rows * m, 1).map(large), [rows, m]));
  const y = scope.own(tensorFrom(device, normals(rows * n, 2), [rows, n]));
  const weights = scope.own(tensorFrom(device, normals(rows, 3).map(Math.abs)));
  const [g, c] = [createDoubleSingle(scope, [m, m]), createDoubleSingle(scope, [m, n])];
  clearDoubleSingle(rec, g);
  clearDoubleSingle(rec, c);
  gram(rec, x, weights, g);
  crossGram(rec, x, y, weights, c);
  symmetrize(rec, g);
  const { x: solution } = await solveSpd(device, g, c, { shift: 1, label: 'G' });
  const results = [await downloadF64(g), await downloadF64(c), await downloadF64(solution)];
  disposeDoubleSingle(solution);
  return results;
}

test('where integers stand in for floats, sums and solutions have the same bits', async () => {
  await using floats = await Device.open();
  await using integers = await Device.open();
  assert.is(await requireExactArithmetic(integers, breaksFloats), 'integer');
  const expected = await statisticsAndSolution(floats);
  assert.equal(await statisticsAndSolution(integers), expected);
});

test.run();
