import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { asBytes, Device, Scope, tensorFrom, tensorFromBytes } from '../../engine/index.js';
import { gramAndSolveCases, outerProductsF64 } from '../../kernels/cases/gramAndSolve.js';
import { crossGram } from '../../kernels/gram/crossGram.js';
import { gram } from '../../kernels/gram/gram.js';
import { outerProductsName, outerProductsVariants } from '../../kernels/gram/variants.js';
import { clearDoubleSingle, createDoubleSingle, downloadF64 } from '../../kernels/shared/doubleSingle.js';
import { addDiagonal } from '../../kernels/solve/addDiagonal.js';
import { symmetrize } from '../../kernels/solve/symmetrize.js';
import { maxAbsError, normals, rejectsWith, relativeError } from '../gpu.js';
import { testCases } from './runCases.js';

const shared = testCases(
  gramAndSolveCases.filter(({ kernel }) => kernel === 'gram' || kernel === 'crossGram'),
);

test('65,536 rows, columns of uneven scale: relative error far within 1e-7', async () => {
  const device = shared();
  using scope = new Scope(device);
  // SwiftShader would take minutes for 576.
  const [rows, d, n] = [65_536, /swiftshader/i.test(device.info.description) ? 128 : 576, 8];
  const block = normals(512 * d, 7);
  const scales = Float64Array.from({ length: d }, (_, column) => 10 ** (((column * 3) % 7) - 3));
  // A mean, as activations have one: the sums grow with the rows instead of their square root.
  const values = Float32Array.from({ length: rows * d }, (_, i) => {
    const row = Math.floor(i / d);
    const column = i - row * d;
    const at = (row * 389 + column * 101 + (row >> 9) * 7919) % block.length;
    return (block[at]! + 0.3) * scales[column]!;
  });
  const x = scope.own(await tensorFromBytes(device, asBytes(values), [rows, d], 'f32', 'x'));
  const targets = Float32Array.from({ length: rows * n }, (_, i) => block[(i * 31) % block.length]! - 0.5);
  const y = scope.own(await tensorFromBytes(device, asBytes(targets), [rows, n], 'f32', 'y'));
  const g = createDoubleSingle(scope, [d, d]);
  const c = createDoubleSingle(scope, [d, n]);
  clearDoubleSingle(device.recorder, g);
  clearDoubleSingle(device.recorder, c);
  gram(device.recorder, x, undefined, g);
  crossGram(device.recorder, x, y, undefined, c);
  symmetrize(device.recorder, g);

  // Rows of G of all scales: the whole would take the host a minute.
  const picked = Array.from({ length: 8 }, (_, i) => Math.floor((i * d) / 8) + i);
  const part = Float32Array.from({ length: rows * picked.length }, (_, i) => {
    return values[Math.floor(i / picked.length) * d + picked[i % picked.length]!]!;
  });
  const found = await downloadF64(g);
  const expected = outerProductsF64(part, values, undefined, [rows, picked.length, d]);
  picked.forEach((row, i) => {
    const error = relativeError(found.subarray(row * d, row * d + d), expected.subarray(i * d, i * d + d));
    assert.ok(error <= 1e-8, `row ${row} of G: ${error}`);
  });
  const error = relativeError(
    await downloadF64(c),
    outerProductsF64(values, targets, undefined, [rows, d, n]),
  );
  assert.ok(error <= 1e-8, `C: ${error}`);
});

test('precise sums err by 1e-12 of the sums of magnitudes at most, the others by 1e-9', async () => {
  const device = shared();
  using scope = new Scope(device);
  const [rows, m, n] = [5000, 24, 7];
  const xs = normals(rows * m, 3).map(value => value + 0.5);
  const ys = normals(rows * n, 4);
  const [x, y] = [tensorFrom(device, xs, [rows, m]), tensorFrom(device, ys, [rows, n])].map(each =>
    scope.own(each),
  );
  const abs = (values: Float32Array) => values.map(Math.abs);
  const errors = async (precise: boolean) => {
    const [g, c] = [createDoubleSingle(scope, [m, m]), createDoubleSingle(scope, [m, n])];
    for (const each of [g, c]) clearDoubleSingle(device.recorder, each);
    gram(device.recorder, x!, undefined, g, { precise });
    crossGram(device.recorder, x!, y!, undefined, c, { precise });
    symmetrize(device.recorder, g);
    const worst = async (sums: typeof g, right: Float32Array, columns: number) => {
      const shape = [rows, m, columns] as const;
      const exact = outerProductsF64(xs, right, undefined, shape);
      const sizes = outerProductsF64(abs(xs), abs(right), undefined, shape);
      const found = await downloadF64(sums);
      return Math.max(...found.map((value, i) => Math.abs(value - exact[i]!) / sizes[i]!));
    };
    return Math.max(await worst(g, xs, m), await worst(c, ys, n));
  };
  const [usual, precise] = [await errors(false), await errors(true)];
  console.log(`sums err by ${usual.toExponential(1)}, precise ones by ${precise.toExponential(1)}`);
  assert.ok(usual <= 1e-9, `${usual}`);
  assert.ok(precise <= 1e-12, `${precise}`);
});

test('rows a thousand times larger do not wipe out the others', async () => {
  const device = shared();
  using scope = new Scope(device);
  const [rows, d] = [700, 40];
  const values = normals(rows * d, 8);
  for (let row = 0; row < rows; row += 100) {
    for (let i = 0; i < d; i++) values[row * d + i]! *= 3000;
  }
  for (const weights of [undefined, normals(rows, 9).map(Math.abs)]) {
    const x = scope.own(tensorFrom(device, values, [rows, d]));
    const w = weights && scope.own(tensorFrom(device, weights));
    // Without the large rows, 1e-7 of the sum remains and must still have five digits.
    const large = Float32Array.from(values, (value, i) => (Math.floor(i / d) % 100 ? 0 : value));
    const share = outerProductsF64(large, large, weights, [rows, d, d]);
    const rest = outerProductsF64(values, values, weights, [rows, d, d]).map((value, i) => value - share[i]!);
    for (const variant of outerProductsVariants(device)) {
      const out = createDoubleSingle(scope, [d, d]);
      clearDoubleSingle(device.recorder, out);
      gram(device.recorder, x, w, out, { variant });
      symmetrize(device.recorder, out);
      const found = await downloadF64(out);
      const error = relativeError(
        found.map((value, i) => value - share[i]!),
        rest,
      );
      assert.ok(error <= 1e-6, `${outerProductsName(variant)}: error ${error} of the small rows' share`);
      for (let i = 0; i < d; i++) {
        for (let j = 0; j < i; j++) assert.is(found[i * d + j], found[j * d + i], 'symmetric');
      }
    }
  }
});

test('operands and sums larger than a binding: the same bits as in one piece', async () => {
  const [rows, m, n] = [600, 530, 517];
  // Just enough for 256 rows of X: X and Y are read in three pieces, G and C have three windows of rows.
  const bindingLimit = 256 * 4 * m;
  const x = normals(rows * m, 12).map((value, i) => (Math.floor(i / m) % 300 === 7 ? 2000 * value : value));
  const y = normals(rows * n, 13);
  const weights = normals(rows, 14).map(Math.abs);
  const whole = shared();
  await using small = await Device.open({ bindingLimit });
  for (const variant of outerProductsVariants(whole)) {
    const results: Float64Array[][] = [];
    for (const device of [whole, small]) {
      const rec = device.recorder;
      using scope = new Scope(device);
      const [g, c] = [createDoubleSingle(scope, [m, m]), createDoubleSingle(scope, [m, n])];
      clearDoubleSingle(rec, g);
      clearDoubleSingle(rec, c);
      const [tx, ty] = [
        scope.own(tensorFrom(device, x, [rows, m])),
        scope.own(tensorFrom(device, y, [rows, n])),
      ];
      const w = scope.own(tensorFrom(device, weights));
      gram(rec, tx, w, g, { variant });
      crossGram(rec, tx, ty, undefined, c, { variant });
      symmetrize(rec, g);
      addDiagonal(rec, g, 1 / 3);
      results.push([await downloadF64(g), await downloadF64(c)]);
    }
    assert.equal(results[1], results[0], outerProductsName(variant));
  }
});

test('accumulates over calls; zero rows and zero weights add nothing', async () => {
  const device = shared();
  using scope = new Scope(device);
  const values = normals(600 * 9, 10);
  const x = scope.own(tensorFrom(device, values, [600, 9]));
  const out = createDoubleSingle(scope, [9, 9]);
  clearDoubleSingle(device.recorder, out);
  gram(device.recorder, x.rows(0, 576), undefined, out);
  gram(device.recorder, x.rows(576, 24), undefined, out);
  gram(device.recorder, x.rows(0, 0), undefined, out);
  gram(device.recorder, x, scope.own(tensorFrom(device, new Float32Array(600))), out);
  const zeros = scope.own(tensorFrom(device, new Float32Array(50 * 9), [50, 9]));
  gram(device.recorder, zeros, undefined, out);
  symmetrize(device.recorder, out);
  const expected = outerProductsF64(values, values, undefined, [600, 9, 9]);
  assert.ok(relativeError(await downloadF64(out), expected) < 1e-9);
  assert.ok(maxAbsError(await downloadF64(out), expected) < 1e-5);
});

test('NaN in a row shows in the result', async () => {
  const device = shared();
  using scope = new Scope(device);
  const values = normals(300 * 5, 11);
  values[777] = Number.NaN;
  const out = createDoubleSingle(scope, [5, 5]);
  clearDoubleSingle(device.recorder, out);
  gram(device.recorder, scope.own(tensorFrom(device, values, [300, 5])), undefined, out);
  const found = await downloadF64(out);
  assert.ok(Number.isNaN(found[(777 % 5) * 6]));
});

test('shapes that do not fit are refused', async () => {
  const device = shared();
  using scope = new Scope(device);
  const x = scope.tensor([8, 3]);
  const out = createDoubleSingle(scope, [3, 3]);
  await rejectsWith(() => gram(device.recorder, x, scope.tensor([7]), out), 'INVALID_ARGUMENT');
  await rejectsWith(
    () => crossGram(device.recorder, x, scope.tensor([9, 3]), undefined, out),
    'INVALID_ARGUMENT',
  );
  await rejectsWith(() => gram(device.recorder, scope.tensor([8, 4]), undefined, out), 'INVALID_ARGUMENT');
});

test.run();
