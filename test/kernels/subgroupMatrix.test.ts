import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { create } from 'webgpu';
import { toggles } from '../../engine/adapter.js';
import { Device, downloadF32, flatGrid, Scope, type Tensor } from '../../engine/index.js';
import { checkCase } from '../../kernels/cases/checkCase.js';
import { caseTensor } from '../../kernels/cases/data.js';
import { hostMatmul, matmulCases } from '../../kernels/cases/matmul.js';
import type { MatmulChoice, MatrixExtents } from '../../kernels/matmul/builtInChoice.js';
import { type MatmulLayout, productBindings } from '../../kernels/matmul/commonWgsl.js';
import { subgroupMatrixWgsl } from '../../kernels/matmul/subgroupMatrix.js';
import { normals, relativeError } from '../gpu.js';
import { saySkipped } from '../support.js';
import { emulatedMatrices } from './emulatedMatrices.js';

type Choice = Extract<MatmulChoice, { variant: 'subgroupMatrix' }>;

/** Configurations that NVIDIA's and Apple's drivers offer. */
const configs: readonly MatrixExtents[] = [
  { m: 16, n: 16, k: 16 },
  { m: 16, n: 8, k: 16 },
  { m: 16, n: 8, k: 8 },
  { m: 8, n: 8, k: 8 },
];

const forms = [
  { name: 'NT', a: true, b: true },
  { name: 'NN', a: true, b: false },
  { name: 'TN', a: false, b: false },
] as const;

interface Extras {
  bias?: boolean;
  residual?: boolean;
  accumulate?: boolean;
}

/** The layout of a product of f16 matrices, as matmul makes it. */
function layoutOf(
  form: (typeof forms)[number],
  { m, n, k }: MatrixExtents,
  { bias = false, residual = false, accumulate = false }: Extras = {},
): MatmulLayout {
  const operand = (kContiguous: boolean, lines: number) =>
    ({ dtype: 'f16', kContiguous, aligned: (kContiguous ? k : lines) % 4 === 0 }) as const;
  const sizes = { oddK: k % 4 !== 0, vec4Out: n % 4 === 0 };
  return {
    a: operand(form.a, m),
    b: operand(form.b, n),
    ...sizes,
    bias,
    residual,
    accumulate,
    partial: false,
  };
}

const choiceOf = (size: 64 | 128, config: MatrixExtents): Choice => ({
  variant: 'subgroupMatrix',
  rows: size,
  columns: size,
  config,
});

/** Dawn's null backend validates programs but computes nothing. It lives as long as the process (crbug 387965810). */
const nullBackend: { gpu?: GPU; adapter?: GPUAdapter | null; device?: GPUDevice } = {};

async function nullDevice(): Promise<GPUDevice> {
  nullBackend.gpu ??= create(['backend=null', ...toggles]);
  nullBackend.adapter ??= await nullBackend.gpu.requestAdapter();
  nullBackend.device ??= await nullBackend.adapter!.requestDevice({
    requiredFeatures: [
      'shader-f16',
      'subgroups',
      'chromium-experimental-subgroup-matrix',
    ] as GPUFeatureName[],
  });
  return nullBackend.device;
}

async function compileErrors(code: string): Promise<string[]> {
  const device = await nullDevice();
  device.pushErrorScope('validation');
  const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
  await device.popErrorScope();
  const source = code.split('\n');
  return messages
    .filter(({ type }) => type === 'error')
    .map(({ message, lineNum }) => `${message}: ${source[lineNum - 1]}`);
}

test.after(() => nullBackend.device?.destroy());

for (const config of configs) {
  test(`programs of ${config.m}x${config.n}x${config.k} compile`, async () => {
    for (const form of forms) {
      for (const sizes of [
        { m: 64, n: 64, k: 64 },
        { m: 63, n: 65, k: 67 },
      ]) {
        for (const extras of [{}, { bias: true, residual: true, accumulate: true }]) {
          for (const size of [64, 128] as const) {
            const code = subgroupMatrixWgsl(layoutOf(form, sizes, extras), choiceOf(size, config));
            assert.equal(
              await compileErrors(code),
              [],
              `${form.name} ${JSON.stringify({ sizes, extras, size })}`,
            );
          }
        }
      }
    }
  });
}

test('the null backend finds errors in a program', async () => {
  const right = subgroupMatrixWgsl(layoutOf(forms[0], configs[1]!), choiceOf(64, configs[1]!));
  // Type arguments are columns, rows: exchanged, the operands do not fit each other.
  const exchanged = right.replaceAll(
    'subgroup_matrix_right<f16, 8, 16>',
    'subgroup_matrix_right<f16, 16, 8>',
  );
  assert.is.not(exchanged, right);
  assert.ok((await compileErrors(exchanged)).length > 0, 'exchanged extents');
  const divergent = right.replace('workgroupBarrier();', 'if (thread > 3u) { workgroupBarrier(); }');
  assert.ok((await compileErrors(divergent)).length > 0, 'a barrier that not all threads reach');
});

let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(() => device?.close());

/** The kernel with emulated matrices against f64. */
async function twinError(
  form: (typeof forms)[number],
  extents: MatrixExtents,
  choice: Choice,
  extras: Extras = {},
): Promise<number> {
  const { m, n, k } = extents;
  using scope = new Scope(device);
  const a = await caseTensor(scope, normals(m * k, 1), form.a ? [m, k] : [k, m], 'f16');
  const b = await caseTensor(scope, normals(n * k, 2), form.b ? [n, k] : [k, n], 'f16');
  const out = await caseTensor(scope, normals(m * n, 3), [m, n]);
  const bias = await caseTensor(scope, normals(n, 4), [n]);
  const residual = await caseTensor(scope, normals(m * n, 5), [m, n]);
  const layout = layoutOf(form, extents, extras);
  const tensors: Record<string, Tensor> = {
    a: a.tensor,
    b: b.tensor,
    out: out.tensor,
    bias: bias.tensor,
    residual: residual.tensor,
  };
  const bindings = productBindings(layout);
  const rowTiles = Math.ceil(m / choice.rows);
  const tiles = rowTiles * Math.ceil(n / choice.columns);
  device.recorder.dispatch({
    program: {
      key: `twin ${JSON.stringify([layout, choice])}`,
      bindings: bindings.map(({ access }) => access),
      wgsl: () => subgroupMatrixWgsl(layout, choice, emulatedMatrices(choice.config)),
    },
    tensors: bindings.map(({ name }) => tensors[name]!),
    params: [m, n, k, rowTiles, tiles, 0],
    grid: flatGrid(tiles),
  });
  const start = Float64Array.from(
    { length: m * n },
    (_, i) =>
      (extras.accumulate ? out.values[i]! : 0) +
      (extras.bias ? bias.values[i % n]! : 0) +
      (extras.residual ? residual.values[i]! : 0),
  );
  const expected = hostMatmul({ form: form.name, m, n, k }, a.values, b.values, start);
  return relativeError(await downloadF32(out.tensor), expected);
}

/** Few matrices each: every product of two adds code, and software drivers compile slowly. */
const twins: [form: (typeof forms)[number], extents: MatrixExtents, choice: Choice, extras: Extras][] = [
  [forms[0], { m: 70, n: 131, k: 37 }, choiceOf(128, configs[0]!), { bias: true, residual: true }],
  [forms[1], { m: 65, n: 68, k: 33 }, choiceOf(64, configs[1]!), { accumulate: true }],
  [forms[2], { m: 68, n: 61, k: 50 }, choiceOf(64, configs[2]!), {}],
];

for (const [form, extents, choice, extras] of twins) {
  const sizes = Object.values(extents).join('x');
  const config = Object.values(choice.config).join('x');
  test(`with emulated matrices: ${form.name} ${sizes}, tile ${choice.rows} of ${config}`, async () => {
    if (!device.features.f16) {
      saySkipped('the adapter has no shader-f16');
      return;
    }
    const error = await twinError(form, extents, choice, extras);
    assert.ok(error <= 1e-6, `error ${error.toExponential(2)}`);
  });
}

test("the device's own matrix units", async () => {
  let checked = 0;
  for (const item of matmulCases) {
    const own = item.variants?.(device).filter(({ name }) => name.startsWith('subgroupMatrix')) ?? [];
    for await (const { variant, error, repeats } of own.length ? checkCase(device, item, own) : []) {
      assert.ok(error <= item.tolerance, `${item.name}, ${variant}: error ${error.toExponential(2)}`);
      assert.ok(repeats, `${item.name}, ${variant}: the same inputs give the same bits`);
      checked++;
    }
  }
  if (!checked) saySkipped('the adapter has no subgroup matrices of f16 with sums in f32');
});

test.run();
