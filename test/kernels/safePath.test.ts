import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, Scope } from '../../engine/index.js';
import { requireExactArithmetic } from '../../engine/selftest.js';
import { outlierSums } from '../../kernels/cases/outlierSums.js';
import { disposeDoubleSingle, downloadF64 } from '../../kernels/shared/doubleSingle.js';
import { solveSpd } from '../../kernels/solve/solveSpd.js';
import { breaksFloats } from '../gpu.js';

/** G, C and X = (G + I)⁻¹ C of activations with outlier rows and weights. */
async function statisticsAndSolution(device: Device): Promise<Float64Array[]> {
  using scope = new Scope(device);
  const { g, c } = outlierSums(device, scope);
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
