import {
  type Device,
  ensure,
  f32Bits,
  objectWith,
  optional,
  type ProgramSpec,
  type ProgramTarget,
  programFamily,
  type Recorder,
  RmError,
  type Tensor,
} from '../../engine/index.js';
import { recordProduct } from '../matmul/recordProduct.js';
import { batchedMatmul } from '../matmul/variants.js';
import { SECONDS_PER_DISPATCH } from '../shared/dispatchTime.js';
import type { DoubleSingle } from '../shared/doubleSingle.js';
import { rowWindow, windowRows } from '../shared/rowTiles.js';
import { broadcastSubgroup } from '../shared/subgroup.js';
import { checkFirstUse, exactKey, notWrong } from '../shared/trustedVariants.js';
import { broadcastWgsl } from './broadcast.js';
import { arithmetics, CHUNK, operations, type Precision } from './commonWgsl.js';
import { TILE_COLUMNS, TILE_ROWS, tiledWgsl } from './tiled.js';

/** A matrix in f32 or double-single. */
export type Matrix = Tensor | DoubleSingle;

export const isPair = (matrix: Matrix): matrix is DoubleSingle => 'hi' in matrix;
export const partsOf = (matrix: Matrix): Tensor[] => (isPair(matrix) ? [matrix.hi, matrix.lo] : [matrix]);
export const shapeOf = (matrix: Matrix): readonly number[] => (isPair(matrix) ? matrix.hi : matrix).shape;

/** The block of a matrix [rows, columns] that begins at this element (default: the first). */
interface Block {
  matrix: Matrix;
  row?: number;
  column?: number;
}

/** The product out = from +- op(A) B of blocks of matrices. */
interface BlockProduct {
  /** A matrix that is not another operand. */
  out: Block;
  /** Default: zero. */
  from?: Block;
  a: Block & { transpose?: boolean };
  b: Block;
  shape: readonly [m: number, n: number, k: number];
  op: 'add' | 'subtract';
  /** Sums double-single operands in three parts; see `Precision`. */
  precise?: boolean;
  variant?: BlockProductVariant | undefined;
}

/** A variant of `blockProduct`. */
export type BlockProductVariant =
  | { readonly name: string; readonly kind: 'broadcast'; readonly subgroup: number; readonly rows: number }
  | { readonly name: string; readonly kind: 'tiled' }
  /** f32 only: the tiles of matmul. */
  | { readonly name: string; readonly kind: 'matmul' };

/** The form of a `BlockProductVariant` that may be left out. */
export const maybeProductVariant = optional(objectWith('a variant of blockProduct', 'name', 'kind'));

/** The variants with programs of their own. */
type OwnVariant = Exclude<BlockProductVariant, { kind: 'matmul' }>;

const tiled: OwnVariant = { name: `tiled ${TILE_ROWS}x${TILE_COLUMNS}`, kind: 'tiled' };

const byMatmul: BlockProductVariant = { name: 'matmul', kind: 'matmul' };

const broadcasts = [8, 16, 32].flatMap(rows =>
  [4, 8, 16].map(subgroup => ({
    name: `broadcast ${rows}x${4 * subgroup}`,
    kind: 'broadcast' as const,
    subgroup,
    rows,
  })),
);

/** Rows of a broadcast tile: more rows need fewer loads, until the sums no longer fit the registers. */
const BROADCAST_ROWS: Readonly<Record<Precision, number>> = { f32: 32, pair: 8, precise: 8 };

/** All variants that a device can run, the default first. */
export function blockProductVariants(
  { info, features, programs }: Device,
  precision: Precision,
): readonly BlockProductVariant[] {
  const fixed = broadcastSubgroup(info, features);
  const possible = broadcasts.filter(({ subgroup }) => subgroup === fixed);
  // Integer arithmetic is long: unrolled over the rows of a broadcast tile, it would take a minute to compile.
  const integers = programs.exact === 'integer' && precision !== 'f32';
  const others = precision === 'f32' ? [byMatmul] : [];
  if (info.kind !== 'software' || integers) return [tiled, ...others, ...possible];
  const suited = possible.filter(({ rows }) => rows === BROADCAST_ROWS[precision]);
  return [...others, ...suited, ...possible.filter(variant => !suited.includes(variant)), tiled];
}

/** From this many rows on, the tiles of matmul are large enough for a GPU. */
const MATMUL_ROWS = 64;

/**
 * After this many terms matmul's f32 sums are added to the output: rounding errors do not grow with k, and a matrix that is
 * bound in pieces gives the same bits, as long as a binding holds so many rows.
 */
const MATMUL_TERMS = 256;

/** Defaults by precision and by the arithmetic of pairs, which a device may change once. */
const defaults = new WeakMap<Device, Map<string, BlockProductVariant>>();

/** The default variant, unless it is wrong on this device. */
const defaultVariant = (device: Device, precision: Precision): BlockProductVariant =>
  notWrong(
    device,
    `blockProduct ${precision}`,
    suitedVariant(device, precision),
    ({ name }) => name,
    () => blockProductVariants(device, precision),
  );

/** What the check of a block product's program needs to run it. */
export interface BlockProgram {
  readonly variant: BlockProductVariant;
  readonly precision: Precision;
}

/** The default variant of devices of this kind; cached, since every dispatch calls this. */
function suitedVariant(device: Device, precision: Precision): BlockProductVariant {
  let variants = defaults.get(device);
  if (!variants) {
    variants = new Map();
    defaults.set(device, variants);
  }
  const key = `${precision} ${device.programs.exact}`;
  const cached = variants.get(key);
  if (cached) return cached;
  const [first = tiled] = blockProductVariants(device, precision);
  variants.set(key, first);
  return first;
}

const wgsl = (variant: OwnVariant, precision: Precision, target: ProgramTarget): string =>
  variant.kind === 'tiled'
    ? tiledWgsl(arithmetics[precision], target)
    : broadcastWgsl(arithmetics[precision], variant.subgroup, variant.rows, target);

const program = programFamily((name: string, precision: Precision): ProgramSpec => {
  const variant = [tiled, ...broadcasts].find(variant => variant.name === name)!;
  const { parts } = arithmetics[precision];
  return {
    key: `block product ${precision} ${name}`,
    bindings: (['write', 'read', 'read', 'read'] as const).flatMap(access => parts.map(() => access)),
    wgsl: target => wgsl(variant, precision, target),
  };
});

/** Records out = from +- op(A) B. All operands have the same precision. @throws RmError INVALID_ARGUMENT. */
export function blockProduct(rec: Recorder, product: BlockProduct): void {
  const { out, from, a, b, shape, op, precise = false } = product;
  const [m, n, k] = shape;
  const pair = isPair(out.matrix);
  const operands = [out, a, b, from ?? a];
  ensure(
    operands.every(({ matrix }) => isPair(matrix) === pair),
    'a block product mixes f32 and double-single',
    'Pass all matrices in one precision.',
  );
  const precision = pair ? (precise ? 'precise' : 'pair') : 'f32';
  const { device } = partsOf(out.matrix)[0]!;
  const variant =
    product.variant ?? (!pair && m >= MATMUL_ROWS ? byMatmul : defaultVariant(device, precision));
  if (variant.kind === 'matmul') {
    byTilesOfMatmul(rec, product);
    return;
  }
  const spec = program(variant.name, precision);
  checkFirstUse<BlockProgram>(rec, device, exactKey(device, spec.key), () => ({
    kernel: `blockProduct ${precision}`,
    variant: variant.name,
    details: { variant, precision },
  }));
  const [tileRows, tileColumns] =
    variant.kind === 'tiled' ? [TILE_ROWS, TILE_COLUMNS] : [variant.rows, 4 * variant.subgroup];

  const alongM = [out, from, a.transpose ? undefined : a];
  const alongK = [b, a.transpose ? a : undefined];
  const mStep = pieces(alongM, m, tileRows);
  const kStep = pieces(alongK, k, CHUNK);
  ensure(
    !precise || kStep === k,
    `a precise product over ${k} terms cannot be split, but one dispatch can bind only ${kStep}`,
    'Pass fewer columns at a time.',
  );
  const columnFlops = operations[precision] * tileColumns * Math.min(m, mStep) * Math.min(k, kStep);
  const affordable = Math.floor((SECONDS_PER_DISPATCH * device.assumedRates.flops) / columnFlops);
  const nStep = Math.max(1, affordable) * tileColumns;
  for (const { rows, depth, left, right, target, begin, goesOn } of boundParts(product, mStep, kStep)) {
    const begins = goesOn ? 2 : begin ? 1 : 0;
    const chunk = precise ? Math.max(1, depth) : CHUNK;
    for (let n0 = 0; n0 < n; n0 += nStep) {
      const columns = Math.min(nStep, n - n0);
      rec.dispatch({
        program: spec,
        tensors: [
          ...target.tensors,
          ...left.tensors,
          ...right.tensors,
          // Unless sums begin with F, this binding is unused, and any input can fill it.
          ...(begin ?? left).tensors,
        ],
        params: [
          ...[rows, n, depth, begins, n0, f32Bits(op === 'add' ? 1 : -1), chunk],
          ...[left.offset, ...(a.transpose ? [1, left.stride] : [left.stride, 1])],
          ...[right.offset, right.stride, begin?.offset ?? 0, begin?.stride ?? 0],
          ...[target.offset, target.stride, 0],
        ],
        grid: [Math.ceil(columns / tileColumns), Math.ceil(rows / tileRows)],
        flops: operations[precision] * rows * columns * depth,
      });
    }
  }
}

/** What one dispatch of a product binds. */
interface BoundPart {
  readonly rows: number;
  readonly depth: number;
  readonly left: Bound;
  readonly right: Bound;
  readonly target: Bound;
  /** What the sums begin with. */
  readonly begin: Bound | undefined;
  /** Whether it adds to the sums of the part before. */
  readonly goesOn: boolean;
}

/** Divides a product into parts of so many rows and terms, which bindings hold. */
function* boundParts(
  { out, from, a, b, shape: [m, , k] }: BlockProduct,
  mStep: number,
  kStep: number,
): Generator<BoundPart> {
  const column = a.column ?? 0;
  for (let m0 = 0; m0 < m; m0 += mStep) {
    const rows = Math.min(mStep, m - m0);
    const target = boundRows(out, m0, rows);
    for (let k0 = 0; k0 < k || k0 === 0; k0 += kStep) {
      const depth = Math.min(kStep, k - k0);
      yield {
        ...{ rows, depth, target },
        left: a.transpose
          ? boundRows({ ...a, column: column + m0 }, k0, depth)
          : boundRows({ ...a, column: column + k0 }, m0, rows),
        right: boundRows(b, k0, depth),
        begin: from && k0 === 0 ? boundRows(from, m0, rows) : undefined,
        goesOn: k0 > 0,
      };
    }
  }
}

/** Rows `start` to `start + count` of a block: tensors that can be bound, and where the rows begin in them. */
function boundRows(
  { matrix, row = 0, column = 0 }: Block,
  start: number,
  count: number,
): { tensors: Tensor[]; offset: number; stride: number } {
  const windows = partsOf(matrix).map(part => rowWindow(part, row + start, count));
  const stride = shapeOf(matrix)[1]!;
  return {
    tensors: windows.map(({ tensor }) => tensor),
    offset: (row + start - windows[0]!.start) * stride + column,
    stride,
  };
}

/** Records a product of f32 blocks by matmul's programs. */
function byTilesOfMatmul(rec: Recorder, product: BlockProduct): void {
  const { out, from, a, b, shape, op } = product;
  const [m, n, k] = shape;
  const { transpose: transposeA = false } = a;
  const { device } = partsOf(out.matrix)[0]!;
  const mStep = pieces([out, from, transposeA ? undefined : a], m, MATMUL_ROWS);
  const kStep = Math.min(MATMUL_TERMS, pieces([b, transposeA ? a : undefined], k, MATMUL_ROWS));
  const matmulShape = { m, n, k: Math.min(k, kStep), transposeA, transposeB: false };
  const choice = batchedMatmul(device, matmulShape, { a: 'f32', b: 'f32' });
  const operand = { dtype: 'f32', block: true } as const;
  for (const { rows, depth, left, right, target, begin, goesOn } of boundParts(product, mStep, kStep)) {
    recordProduct(rec, {
      kernel: 'matmul',
      layout: {
        a: { ...operand, kContiguous: !transposeA, aligned: byFours(transposeA ? rows : depth, left) },
        b: { ...operand, kContiguous: false, aligned: byFours(n, right) },
        oddK: depth % 4 !== 0,
        vec4Out: byFours(n, target) && (!begin || byFours(n, begin)),
        ...{ bias: false, residual: false, accumulate: false, partial: false },
        blocks: goesOn ? 'out' : begin ? 'block' : 'nothing',
      },
      ...{ choice, m: rows, n, k: depth, out: target.tensors[0]! },
      operands: [left.tensors[0]!, right.tensors[0]!],
      epilogue: begin?.tensors ?? [],
      blocks: {
        sign: op === 'add' ? 1 : -1,
        ...{ a: placed(left), b: placed(right), out: placed(target) },
        ...(begin && { from: placed(begin) }),
      },
    });
  }
}

/** A block in a tensor that is bound. */
type Bound = ReturnType<typeof boundRows>;
const placed = ({ offset: start, stride: row }: Bound) => ({ start, row });

/** Whether the rows of a block consist of whole vectors. */
const byFours = (extent: number, { offset, stride }: Bound): boolean =>
  extent % 4 === 0 && offset % 4 === 0 && stride % 4 === 0;

/** How much of an extent along the rows of these matrices one dispatch can bind: all of it or a multiple of `unit`. */
function pieces(blocks: readonly (Block | undefined)[], extent: number, unit: number): number {
  const tensors = blocks.flatMap(block => (block ? partsOf(block.matrix) : []));
  const most = Math.min(...tensors.map(windowRows));
  if (extent <= most) return Math.max(1, extent);
  const step = most - (most % unit);
  if (step > 0) return step;
  const large = tensors.find(tensor => windowRows(tensor) < unit)!;
  throw new RmError(
    'INVALID_ARGUMENT',
    `'${large.label}' [${large.shape}] cannot be bound in pieces of ${unit} rows`,
    'Use a device with larger storage bindings.',
  );
}
