import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { create } from 'webgpu';
import { toggles } from '../../engine/adapter.js';
import { Device } from '../../engine/index.js';
import { checkCase } from '../../kernels/cases/checkCase.js';
import { gatedMatmulCases } from '../../kernels/cases/gatedMatmul.js';
import { matmulCases } from '../../kernels/cases/matmul.js';
import { type MatmulChoice, type MatrixUnit, matrixTiles } from '../../kernels/matmul/builtInChoice.js';
import type { MatmulLayout } from '../../kernels/matmul/commonWgsl.js';
import type { FactorTypes, MatrixTile } from '../../kernels/matmul/matrixTiles.js';
import { subgroupMatrixWgsl } from '../../kernels/matmul/subgroupMatrix.js';
import type { FloatType } from '../../kernels/shared/checks.js';
import { saySkipped } from '../support.js';

type Choice = Extract<MatmulChoice, { variant: 'subgroupMatrix' }>;

const ofWidth = (subgroup: number, m: number, n: number, k: number, sized = false): MatrixUnit => ({
  ...{ m, n, k, subgroup, sized },
});

/** Units that drivers of NVIDIA, AMD, Apple and Mesa's lavapipe offer. */
const units: readonly MatrixUnit[] = [
  ofWidth(32, 16, 16, 16),
  ofWidth(32, 16, 16, 16, true),
  ofWidth(32, 16, 8, 16),
  ofWidth(32, 16, 8, 8),
  ofWidth(32, 8, 8, 8),
  ofWidth(8, 8, 8, 8),
  ofWidth(64, 16, 16, 16, true),
];

const unitName = ({ m, n, k, subgroup, sized }: MatrixUnit) =>
  `${m}x${n}x${k} by ${subgroup}${sized ? ' on request' : ''}`;

const forms = [
  { name: 'NT', a: true, b: true },
  { name: 'NN', a: true, b: false },
  { name: 'TN', a: false, b: false },
] as const;

interface Extras {
  bias?: boolean;
  residual?: boolean;
  accumulate?: boolean;
  gated?: boolean;
}

type Extents = Pick<MatrixUnit, 'm' | 'n' | 'k'>;

/** The layout of a product, as matmul and gatedMatmul make it. */
function layoutOf(
  form: (typeof forms)[number],
  { m, n, k }: Extents,
  [a, b]: readonly [FloatType, FloatType],
  { bias = false, residual = false, accumulate = false, gated = false }: Extras = {},
): MatmulLayout {
  const operand = (dtype: FloatType, kContiguous: boolean, lines: number) => ({
    ...{ dtype, kContiguous, aligned: (kContiguous ? k : lines) % 4 === 0 },
  });
  const right = operand(b, form.b, n);
  return {
    a: operand(a, form.a, m),
    b: right,
    ...(gated && { gated: { up: right, activation: 'silu', upBias: false } }),
    ...{ oddK: k % 4 !== 0, vec4Out: n % 4 === 0 },
    ...{ bias, residual, accumulate, partial: false, exponents: a !== 'f16' || b !== 'f16' },
  };
}

const choiceOf = (unit: MatrixUnit, tile: MatrixTile): Choice => ({
  variant: 'subgroupMatrix',
  unit,
  ...tile,
});

/** The smallest and the largest tile for these types. */
function tilesFor(types: FactorTypes, single: boolean): MatrixTile[] {
  const tiles = matrixTiles(types, single);
  return tiles.length > 1 ? [tiles[0]!, tiles.at(-1)!] : tiles;
}

/** Dawn's null backend validates programs but computes nothing. It lives as long as the process (crbug 387965810). */
const nullBackend: { gpu?: GPU; adapter?: GPUAdapter | null; device?: GPUDevice } = {};

async function nullDevice(): Promise<GPUDevice> {
  nullBackend.gpu ??= create(['backend=null', ...toggles()]);
  nullBackend.adapter ??= await nullBackend.gpu.requestAdapter();
  nullBackend.device ??= await nullBackend.adapter!.requestDevice({
    requiredFeatures: [
      'shader-f16',
      'subgroups',
      'chromium-experimental-subgroup-matrix',
      'subgroup-size-control',
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

const pairs = [
  ['f16', 'f16'],
  ['f32', 'bf16'],
  ['f32', 'f32'],
] as const;

for (const unit of units) {
  test(`programs of ${unitName(unit)} compile`, async () => {
    for (const [form, sizes] of [
      [forms[0], { m: 64, n: 64, k: 64 }],
      [forms[1], { m: 63, n: 65, k: 67 }],
      [forms[2], { m: 64, n: 64, k: 64 }],
    ] as const) {
      for (const types of pairs) {
        for (const tile of [...tilesFor(types, false), ...tilesFor(types, true)]) {
          const extras = sizes.m === 64 ? {} : { bias: true, residual: true, accumulate: true };
          const code = subgroupMatrixWgsl(layoutOf(form, sizes, types, extras), choiceOf(unit, tile));
          assert.equal(await compileErrors(code), [], JSON.stringify({ form, sizes, types, tile }));
        }
      }
    }
    const layout = layoutOf(forms[0], { m: 64, n: 64, k: 64 }, ['f32', 'bf16'], { gated: true });
    for (const tile of tilesFor(['f32', 'bf16', 'bf16'], false))
      assert.equal(await compileErrors(subgroupMatrixWgsl(layout, choiceOf(unit, tile))), [], 'gated');
  });
}

test('the null backend finds errors in a program', async () => {
  const unit = ofWidth(32, 16, 8, 16);
  const [tile] = matrixTiles(['f16', 'f16'], false);
  const right = subgroupMatrixWgsl(layoutOf(forms[0], unit, ['f16', 'f16']), choiceOf(unit, tile!));
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

/** A driver on the CPU takes ten seconds for each: odd and even extents, all dtypes, every form and epilogue once. */
const ownCases = [
  'NT 129x131x127 f16 + bias + residual',
  'NN 7x1001x61 bf16 x f16 + out',
  'NT 68x144x576 f32 x bf16, 11 bits + residual',
  'TN 260x260x100 f32, lower triangle',
  '70x67x129 f16 silu + biases',
];

test("the device's own matrix units", async () => {
  let checked = 0;
  for (const item of [...matmulCases, ...gatedMatmulCases].filter(({ name }) => ownCases.includes(name))) {
    const own = item.variants?.(device).filter(({ name }) => name.startsWith('subgroupMatrix')) ?? [];
    for await (const { variant, error, repeats } of own.length
      ? checkCase(device, item, own.slice(0, 1))
      : []) {
      assert.ok(error <= item.tolerance, `${item.name}, ${variant}: error ${error.toExponential(2)}`);
      assert.ok(repeats, `${item.name}, ${variant}: the same inputs give the same bits`);
      checked++;
    }
  }
  if (checked) assert.is(checked, ownCases.length);
  else saySkipped('the adapter has no subgroup matrices of f16 with sums in f32');
});

test.run();
