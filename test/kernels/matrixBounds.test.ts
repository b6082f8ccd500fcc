// The error bounds of docs/kernels.md for products on matrix units, element by element against f64, with operands made to
// break them. Matrices are emulated by sums that lose their last bit at every step; where the device has units of
// its own (Mesa's lavapipe 26), those are checked too. About 10 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, flatGrid, Scope, type Tensor } from '../../engine/index.js';
import { caseTensor } from '../../kernels/cases/data.js';
import { type MatmulChoice, type MatrixUnit, matrixUnit } from '../../kernels/matmul/builtInChoice.js';
import { type MatmulLayout, productBindings } from '../../kernels/matmul/commonWgsl.js';
import { lineExponents } from '../../kernels/matmul/lineExponents.js';
import { partsOf, productsOf } from '../../kernels/matmul/matrixTiles.js';
import { PROMOTED, subgroupMatrixWgsl } from '../../kernels/matmul/subgroupMatrix.js';
import { normals } from '../gpu.js';
import { saySkipped } from '../support.js';
import { emulatedMatrices } from './emulatedMatrices.js';

type Choice = Extract<MatmulChoice, { variant: 'subgroupMatrix' }>;

interface Product {
  b: 'f32' | 'bf16';
  single: boolean;
  /** A is stored as [k, m] and B as [k, n]. */
  transposed: boolean;
}

const products: readonly Product[] = [
  { b: 'bf16', single: false, transposed: false },
  { b: 'bf16', single: true, transposed: false },
  { b: 'f32', single: false, transposed: true },
];

const [m, n, k] = [9, 10, 261];

/** Activations with massive outliers beside 1, a line of zeros and one of subnormal numbers. */
function activations(): Float32Array {
  const values = normals(m * k, 1);
  for (let i = 0; i < k; i += 100) values[i] = i % 200 ? 1e5 : -1e5;
  values.fill(0, k, 2 * k);
  for (let i = 2 * k; i < 3 * k; i++) values[i]! *= 1e-40;
  return values;
}

/** Weights with 30 binades in every line but one of zeros. */
const weights = (): Float32Array =>
  normals(n * k, 2).map((value, i) => (i < k ? 0 : value * 2 ** -(((i * 7) % 31) + (i % 5))));

const transpose = (values: Float32Array, lines: number): Float32Array =>
  values.map((_, i) => values[(i % lines) * k + Math.floor(i / lines)]!);

let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(() => device?.close());

/** The product as recordProduct computes it, with the device's own matrices or emulated ones. */
async function compute(
  { b, single, transposed }: Product,
  unit: MatrixUnit,
  emulated: boolean,
  left: Float32Array,
  right: Float32Array,
): Promise<{ out: Float32Array; right: Float32Array }> {
  using scope = new Scope(device);
  const rec = device.recorder;
  const shape = (lines: number) => (transposed ? [k, lines] : [lines, k]);
  const stored = (values: Float32Array, lines: number) => (transposed ? transpose(values, lines) : values);
  const operands = [
    await caseTensor(scope, stored(left, m), shape(m), 'f32'),
    await caseTensor(scope, stored(right, n), shape(n), b),
  ];
  const [a, second] = operands.map(({ tensor }) => tensor) as [Tensor, Tensor];
  const kContiguous = !transposed;
  const layout: MatmulLayout = {
    a: { dtype: 'f32', kContiguous, aligned: false },
    b: { dtype: b, kContiguous, aligned: false },
    ...{ oddK: true, vec4Out: false, bias: false, residual: false, accumulate: false, partial: false },
    exponents: true,
  };
  const exponents = scope.tensor([m + n], 'u32');
  lineExponents(rec, a, layout.a, [m, k], exponents, 0);
  lineExponents(rec, second, layout.b, [n, k], exponents, m);
  const choice: Choice = { variant: 'subgroupMatrix', rows: 64, columns: 64, single, unit };
  const tiles = ['tile_a0', ...(single ? [] : ['tile_a1']), 'tile_b0', ...(b === 'f32' ? ['tile_b1'] : [])];
  const operations = emulated ? emulatedMatrices(unit, tiles, true) : undefined;
  const out = scope.tensor([m, n]);
  rec.dispatch({
    program: {
      key: `bounds ${JSON.stringify([choice, layout, emulated])}`,
      bindings: productBindings(layout).map(({ access }) => access),
      wgsl: () => subgroupMatrixWgsl(layout, choice, operations),
    },
    tensors: [a, second, out, exponents],
    // The tile is the only one: no ranges, batches or groups.
    params: [m, n, k, 1, 1, 0, 1, ...Array<number>(7).fill(0)],
    grid: flatGrid(1),
  });
  const values = operands[1]!.values;
  return {
    out: await downloadF32(out),
    right: transposed ? values.map((_, i) => values[(i % k) * n + Math.floor(i / k)]!) : values,
  };
}

/** The largest error in units of the bound; NaN where a value is no number. */
function largestError(
  { b, single }: Product,
  lost: number,
  out: Float32Array,
  left: Float32Array,
  right: Float32Array,
): number {
  const [partsA, partsB] = [partsOf('f32', single), partsOf(b, single)];
  const rounding = (parts: number, dtype: string) => (dtype === 'bf16' ? 0 : 2 ** (-11 * parts));
  const steps = productsOf(partsA, partsB).length * PROMOTED + Math.ceil(k / PROMOTED);
  const relative = rounding(partsA, 'f32') + rounding(partsB, b) + 2 ** -22 + steps * lost;
  let worst = 0;
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let [sum, norm, normA, normB, mostA, mostB] = [0, 0, 0, 0, 0, 0];
      for (let l = 0; l < k; l++) {
        const [x, y] = [left[i * k + l]!, right[j * k + l]!];
        sum += x * y;
        norm += Math.abs(x * y);
        [normA, normB] = [normA + Math.abs(x), normB + Math.abs(y)];
        [mostA, mostB] = [Math.max(mostA, Math.abs(x)), Math.max(mostB, Math.abs(y))];
      }
      // The last term: subnormal f32 may be flushed.
      const bound = relative * norm + 2 ** -38 * (mostA * normB + mostB * normA) + 1.2e-38 * (normA + normB);
      worst = Math.max(worst, Math.abs(out[i * n + j]! - sum) / (bound || Number.MIN_VALUE));
    }
  }
  return worst;
}

const nameOf = ({ b, single, transposed }: Product) =>
  `${transposed ? 'TN' : 'NT'} f32 x ${b}${single ? ', single' : ''}`;

async function check(product: Product, unit: MatrixUnit, emulated: boolean): Promise<void> {
  const left = activations();
  const { out, right } = await compute(product, unit, emulated, left, weights());
  // Emulated sums lose a bit more than truncation does.
  const error = largestError(product, 2 ** (emulated ? -22 : -23), out, left, right);
  assert.ok(error <= 1, `${nameOf(product)}: ${error} of the bound`);
}

for (const product of products) {
  test(`${nameOf(product)}: within the bound with truncated sums`, async () => {
    if (!device.features.f16) return saySkipped('the adapter has no shader-f16');
    await check(product, { m: 16, n: 16, k: 16, subgroup: 32, sized: false }, true);
  });
}

test('an infinity or NaN shows in its row and nowhere else', async () => {
  if (!device.features.f16) return saySkipped('the adapter has no shader-f16');
  const left = normals(m * k, 3);
  left[2 * k + 7] = Number.POSITIVE_INFINITY;
  left[5 * k + 9] = Number.NaN;
  const unit = { m: 16, n: 16, k: 16, subgroup: 32, sized: false };
  const { out } = await compute(products[0]!, unit, true, left, normals(n * k, 4));
  const rows = Array.from({ length: m }, (_, i) => out.subarray(i * n, (i + 1) * n));
  const broken = rows.flatMap((row, i) => (row.every(Number.isFinite) ? [] : [i]));
  assert.equal(broken, [2, 5]);
});

test("the device's own matrix units keep the bound", async () => {
  const unit = matrixUnit(device.info, device.features);
  if (!unit) return saySkipped('the adapter has no subgroup matrices of f16 with sums in f32');
  for (const product of products) await check(product, unit, false);
});

test.run();
