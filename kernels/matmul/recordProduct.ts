import {
  f32Bits,
  flatGrid,
  type ProgramSpec,
  type ProgramTarget,
  type Recorder,
  Scope,
  type Tensor,
} from '../../engine/index.js';
import type { FloatType } from '../shared/checks.js';
import { tilesPerDispatch } from '../shared/dispatchTime.js';
import { runFlat } from '../shared/flat.js';
import { checkFirstUse } from '../shared/trustedVariants.js';
import { broadcastWgsl } from './broadcast.js';
import type { MatmulChoice } from './builtInChoice.js';
import { layoutKey, type MatmulLayout, productBindings } from './commonWgsl.js';
import { lineExponents } from './lineExponents.js';
import { matrixTileColumns } from './matrixTiles.js';
import { matvecColumns, matvecWgsl } from './matvec.js';
import { partialSumsProgram } from './partialSums.js';
import { subgroupMatrixWgsl } from './subgroupMatrix.js';
import { RANGE_STEP, tiledColumns, tiledWgsl } from './tiled.js';
import { matmulName } from './variants.js';

/** A product with checked operands. */
export interface Product {
  kernel: 'matmul' | 'gatedMatmul';
  /** `partial` is false: `choice` decides whether k is split. */
  layout: MatmulLayout;
  choice: MatmulChoice;
  m: number;
  n: number;
  k: number;
  /** A, B and, for a gated product, the second right operand. */
  operands: readonly Tensor[];
  out: Tensor;
  /** Those of bias, second bias and residual that the layout has, in this order. */
  epilogue: readonly Tensor[];
  /** Of a batched layout: how many products, and the elements from one operand to the next. */
  batch?: { count: number; aStride: number; bStride: number };
  /** Of a grouped layout. */
  groups?: ProductGroups;
  /** Of a limited gated layout: where sums are clamped. */
  limit?: number;
  /** Of a layout of blocks; `from` is the block that the product is added to. */
  blocks?: { sign: 1 | -1; a: Placed; b: Placed; out: Placed; from?: Placed };
}

/** Where a block begins in the tensor that is bound, in elements, and the distance of its rows. */
interface Placed {
  start: number;
  row: number;
}

/** Groups of the rows of A, and those of which B holds the matrices. */
export interface ProductGroups {
  /** Where each group begins, and where the last one ends; u32 [count + 1]. */
  readonly begins: Tensor;
  readonly count: number;
  /** Rows of a group, about. */
  readonly rows: number;
  readonly first: number;
  readonly end: number;
}

/** What the check of a product's program needs to run it: the product without its tensors. */
export interface ProductProgram extends Pick<Product, 'kernel' | 'layout' | 'choice'> {
  /** Tile of one workgroup. */
  rows: number;
  columns: number;
}

/** Describes an operand in messages: "'label' [shape] dtype". */
export const nameOperand = ({ label, shape, dtype }: Tensor, transposed = false): string =>
  `'${label}' [${shape}] ${dtype}${transposed ? ' transposed' : ''}`;

/** The dtype of an operand; calls `fail`, which throws, for u32. */
export function operandType({ dtype, label }: Tensor, fail: (what: string, fix: string) => never): FloatType {
  return dtype === 'u32' ? fail(`has u32 in '${label}'`, 'Operands are f32, f16 or bf16.') : dtype;
}

/** Records the dispatches of a product. The same inputs give the same bits on the same device. */
export function recordProduct(rec: Recorder, product: Product): void {
  const { layout, choice, m, n, k, operands, out, epilogue, batch, groups } = product;
  if (choice.variant === 'subgroupMatrix') {
    recordScaled(rec, product);
    return;
  }
  const splits = choice.variant === 'tiled' && !layout.lower && !batch && !groups ? choice.splits : 1;
  const range = Math.ceil(k / splits / RANGE_STEP) * RANGE_STEP;
  if (splits === 1 || range >= k) {
    recordTiles(rec, product, [...operands, out, ...epilogue, ...(groups ? [groups.begins] : [])]);
    return;
  }
  const count = Math.ceil(k / range);
  using scope = new Scope(out.device);
  const partials = scope.tensor([count, m, n], 'f32', 'partial products');
  const partial: Product = { ...product, layout: { ...layout, partial: true } };
  recordTiles(rec, partial, [...operands, partials], { range, count });
  const width = layout.vec4Out ? 4 : 1;
  const elements = m * n;
  runFlat(
    rec,
    partialSumsProgram(layout),
    [partials, out, ...epilogue],
    elements / width,
    [n / width, count],
    { flops: count * elements, bytes: 4 * elements * (count + 1 + epilogue.length) },
  );
}

/** Records a product on matrix units: the exponents of lines that must be scaled to f16, and then the tiles. */
function recordScaled(rec: Recorder, product: Product): void {
  const { m, n, k, operands, out, epilogue } = product;
  const { a, b, gated } = product.layout;
  const layouts = [a, b, ...(gated ? [gated.up] : [])];
  const scaled = layouts.some(({ dtype }) => dtype !== 'f16');
  const tensors = [...operands, out, ...epilogue];
  if (!scaled) {
    recordTiles(rec, product, tensors);
    return;
  }
  using scope = new Scope(out.device);
  const exponents = scope.tensor([m + n * (layouts.length - 1)], 'u32', 'exponents of lines');
  layouts.forEach((layout, i) => {
    if (layout.dtype === 'f16') return;
    const [lines, first] = i === 0 ? [m, 0] : [n, m + (i - 1) * n];
    lineExponents(rec, operands[i]!, layout, [lines, k], exponents, first);
  });
  recordTiles(rec, { ...product, layout: { ...product.layout, exponents: true } }, [...tensors, exponents]);
}

function recordTiles(
  rec: Recorder,
  { kernel, layout, choice, m, n, k, out, batch, blocks, groups, limit = 0 }: Product,
  tensors: readonly Tensor[],
  split?: { range: number; count: number },
): void {
  const { rows, columns, program } = plan(kernel, choice, layout, groups ? Math.min(4, groups.rows) : m);
  checkFirstUse<ProductProgram>(rec, out.device, program.key, () => ({
    kernel,
    variant: matmulName(choice),
    details: { kernel, layout, choice, rows, columns },
  }));
  // As many as groups of any sizes need (groupedOrigin in commonWgsl.ts).
  const rowTiles = groups && rows > 1 ? Math.floor(m / rows) + groups.count : Math.ceil(m / rows);
  const tiles = rowTiles * Math.ceil(n / columns);
  const products = batch?.count ?? 1;
  const workgroups = tiles * products * (split?.count ?? 1);
  const flops = products * (layout.gated ? 4 : 2) * (layout.lower ? (m + 1) / 2 : m) * n * k;
  let bytes = layout.accumulate ? out.byteLength : 0;
  if (blocks) bytes = 4 * (k * (m + n) + 2 * m * n);
  else for (const tensor of tensors) bytes += tensor.byteLength;
  const more = blocks
    ? [
        f32Bits(blocks.sign),
        ...[blocks.a, blocks.b, blocks.out, blocks.from ?? blocks.out].flatMap(({ start, row }) => [
          start,
          row,
        ]),
      ]
    : [];
  const step = tilesPerDispatch(workgroups, flops, out.device);
  for (let first = 0; first < workgroups; first += step) {
    const count = Math.min(step, workgroups - first);
    rec.dispatch({
      program,
      tensors,
      params: [
        ...[m, n, k, rowTiles, first + count, first, tiles, split?.range ?? 0],
        ...[batch?.aStride ?? 0, batch?.bStride ?? n * k],
        ...[groups?.count ?? 0, groups?.first ?? 0, groups?.end ?? 0, f32Bits(limit)],
        ...more,
      ],
      grid: flatGrid(count),
      flops: (flops * count) / workgroups,
      bytes: (bytes * count) / workgroups,
    });
  }
}

interface Plan {
  /** Tile of one workgroup. */
  rows: number;
  columns: number;
  program: ProgramSpec;
}

/** Plans by everything that their WGSL depends on; cached, since making one takes longer than a dispatch. */
const plans = new Map<string, Plan>();

function plan(kernel: string, choice: MatmulChoice, layout: MatmulLayout, m: number): Plan {
  const key = `${kernel} ${matmulName(choice)}${choice.variant === 'matvec' ? `, ${m} rows` : ''}: ${layoutKey(layout)}`;
  let cached = plans.get(key);
  if (!cached) {
    const { rows, columns, wgsl } = generator(choice, layout, m);
    const bindings = productBindings(layout).map(({ access }) => access);
    cached = { rows, columns, program: { key, bindings, wgsl } };
    plans.set(key, cached);
  }
  return cached;
}

type Generator = Omit<Plan, 'program'> & { wgsl(target: ProgramTarget): string };

function generator(choice: MatmulChoice, layout: MatmulLayout, m: number): Generator {
  switch (choice.variant) {
    case 'broadcast': {
      const { subgroup, rows } = choice;
      return { rows, columns: 4 * subgroup, wgsl: () => broadcastWgsl(layout, subgroup, rows) };
    }
    case 'tiled': {
      const columns = tiledColumns(choice, layout.gated !== undefined);
      return { rows: choice.rows, columns, wgsl: target => tiledWgsl(layout, choice, target) };
    }
    case 'matvec': {
      const { perLane } = choice;
      return { rows: m, columns: matvecColumns(perLane), wgsl: () => matvecWgsl(layout, m, perLane) };
    }
    case 'subgroupMatrix': {
      const columns = matrixTileColumns(choice, layout.gated !== undefined);
      return { rows: choice.rows, columns, wgsl: () => subgroupMatrixWgsl(layout, choice) };
    }
  }
}
