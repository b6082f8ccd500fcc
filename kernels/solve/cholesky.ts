import {
  asF32,
  asU32,
  checkArguments,
  type Device,
  download,
  ensure,
  f32Bits,
  oneOf,
  optional,
  type ProgramSpec,
  type ProgramTarget,
  programFamily,
  type Recorder,
  RmError,
  record,
  Scope,
  settings,
  type Tensor,
  whole,
} from '../../engine/index.js';
import {
  type BlockProductVariant,
  blockProduct,
  isPair,
  type Matrix,
  maybeProductVariant,
  partsOf,
  shapeOf,
} from '../blockProduct/blockProduct.js';
import { aMatrix, checkOperands, maybeNumber } from '../shared/checks.js';
import { createDoubleSingle, exactArithmetic, pairDivision, RUNTIME_ZERO } from '../shared/doubleSingle.js';
import { rowWindow } from '../shared/rowTiles.js';

/** Rows of a diagonal block. */
const BLOCK = 32;

/** WGSL of the pair operations in f32, so that one program text serves both precisions. */
const f32Arithmetic = /* wgsl */ `
alias Number = f32;
fn subtractProduct(s: f32, a: f32, b: f32) -> f32 { return s - a * b; }
fn normalised(s: f32) -> f32 { return s; }
fn quotient(a: f32, b: f32) -> f32 { return a / b; }
fn root(a: f32) -> f32 { return sqrt(a); }
fn one() -> f32 { return 1.0; }
fn leading(a: f32) -> f32 { return a; }`;

const pairArithmetic = (
  target: ProgramTarget,
) => /* wgsl */ `${exactArithmetic('f32', target.exact)}${pairDivision}
alias Number = Pair;
fn subtractProduct(s: Pair, a: Pair, b: Pair) -> Pair { return multiplyAdd(s, Pair(-a.hi, -a.lo), b); }
fn normalised(s: Pair) -> Pair { return normalise(s); }
fn quotient(a: Pair, b: Pair) -> Pair { return divide(a, b); }
fn root(a: Pair) -> Pair { return squareRoot(a); }
fn one() -> Pair { return Pair(1.0, 0.0); }
fn leading(a: Pair) -> f32 { return a.hi; }`;

const storage = (name: string, binding: number, pair: boolean, access = 'read_write'): string => {
  const declare = (part: string, i: number) =>
    `@group(0) @binding(${binding + i}) var<storage, ${access}> ${name}${part}: array<f32>;`;
  const parts = pair ? ['Hi', 'Lo'] : ['_'];
  return `
${parts.map(declare).join('\n')}
fn ${name}(i: u32) -> Number { return ${pair ? `Pair(${name}Hi[i], ${name}Lo[i])` : `${name}_[i]`}; }
${
  access === 'read'
    ? ''
    : `fn ${name}Set(i: u32, v: Number) { ${pair ? `${name}Hi[i] = v.hi; ${name}Lo[i] = v.lo;` : `${name}_[i] = v;`} }`
}`;
};

/** Factorises a diagonal block in one workgroup; invocation i owns column i of the block of U, then row i of its inverse. */
const diagonalBlock = programFamily((pair: boolean): ProgramSpec => {
  const parts = pair ? 2 : 1;
  return {
    key: `cholesky diagonal block${pair ? ' double-single' : ''}`,
    bindings: [...Array(parts).fill('read'), ...Array(2 * parts + 1).fill('write')],
    wgsl: target => /* wgsl */ `
struct Params {
  size: u32, start: u32, sourceRow: u32, offset: u32, row: u32, inverseOffset: u32, inverseRow: u32,
  minimumPivot: f32, ${RUNTIME_ZERO}
}
@group(0) @binding(0) var<uniform> p: Params;
${pair ? pairArithmetic(target) : f32Arithmetic}
${storage('source', 1, pair, 'read')}
${storage('matrix', 1 + parts, pair)}
${storage('inverse', 1 + 2 * parts, pair)}
@group(0) @binding(${1 + 3 * parts}) var<storage, read_write> status: array<u32>;
/** The transpose of U: lower triangular. */
var<workgroup> tile: array<Number, ${BLOCK * (BLOCK + 1)}>;
fn at(row: u32, column: u32) -> u32 { return row * ${BLOCK + 1}u + column; }
@compute @workgroup_size(${BLOCK}) fn main(@builtin(local_invocation_index) lane: u32) {
  let size = p.size;
  if (lane < size) {
    for (var c = 0u; c <= lane; c++) { tile[at(lane, c)] = source(c * p.sourceRow + lane); }
  }
  for (var j = 0u; j < size; j++) {
    workgroupBarrier();
    // One invocation writes status and another reads it.
    storageBarrier();
    if (lane == j) {
      var pivot = tile[at(j, j)];
      if (!(leading(pivot) > p.minimumPivot)) {
        if (status[0] == 0u) { status[0] = p.start + j + 1u; status[1] = bitcast<u32>(leading(pivot)); }
        pivot = one();
      }
      tile[at(j, j)] = root(pivot);
    }
    workgroupBarrier();
    if (lane > j && lane < size) { tile[at(lane, j)] = quotient(tile[at(lane, j)], tile[at(j, j)]); }
    workgroupBarrier();
    if (lane > j && lane < size) {
      for (var c = j + 1u; c <= lane; c++) {
        tile[at(lane, c)] = normalised(subtractProduct(tile[at(lane, c)], tile[at(lane, j)], tile[at(c, j)]));
      }
    }
  }
  workgroupBarrier();
  if (lane >= size) { return; }
  for (var c = 0u; c <= lane; c++) { matrixSet(p.offset + c * p.row + lane, tile[at(lane, c)]); }
  // Row lane of the inverse by forward substitution; the invocation reads back only what it wrote itself.
  let base = p.inverseOffset + lane * p.inverseRow;
  for (var i = 0u; i < size; i++) {
    var s = Number();
    if (i >= lane) {
      if (i == lane) { s = one(); }
      for (var c = lane; c < i; c++) { s = subtractProduct(s, tile[at(i, c)], inverse(base + c)); }
      s = quotient(normalised(s), tile[at(i, i)]);
    }
    inverseSet(base + i, s);
  }
}`,
  };
});

/** A Cholesky factor A = U^T U, as `cholesky` returns it and `triangularSolve` takes it. */
export interface CholeskyFactor {
  /** U is the upper triangle. */
  u: Matrix;
  n: number;
  /** Inverses of the diagonal blocks of U, [n, inverseBlock]. */
  inverses: Matrix;
  inverseBlock: number;
  /** @internal */
  variant: BlockProductVariant | undefined;
  /** @internal Rows of a panel; see `panelRows`. */
  panel: number;
  /** The tensors that `cholesky` created. */
  owned: readonly Tensor[];
  /** Waits for the device and returns the first pivot that failed, if any. */
  failedPivot(): Promise<{ index: number; value: number } | undefined>;
  /** Waits for the device. @throws RmError NOT_POSITIVE_DEFINITE, which names the first pivot that failed. */
  check(): Promise<void>;
  /** Frees the tensors that `cholesky` created. */
  dispose(): void;
}

/** The form of a `CholeskyFactor`, as far as solves read it. */
export const theFactor = record({
  u: aMatrix,
  n: whole(),
  inverses: aMatrix,
  inverseBlock: whole(1),
  variant: maybeProductVariant,
  panel: whole(1),
});

/** Settings of `cholesky`. */
export interface CholeskyOptions {
  /** Pivots must be above this; default: 0. */
  minimumPivot?: number;
  /** Rows of the inverted diagonal blocks; default: 128 on GPUs, else 32. */
  inverseBlock?: 32 | 64 | 128;
  /** @internal The variant of the products; for tests and measurements. */
  variant?: BlockProductVariant | undefined;
  /** @internal Rows of a panel, a multiple of `inverseBlock`; for tests and measurements. */
  panel?: number;
}

const choleskySettings = settings<CholeskyOptions>({
  minimumPivot: maybeNumber,
  inverseBlock: optional(oneOf(32, 64, 128)),
  variant: maybeProductVariant,
  panel: optional(whole(1)),
});

/**
 * Rows of a panel, from which the product of all panels before is subtracted at once, by the large tiles of matmul. Not of a
 * double-single matrix, for which blockProduct has small tiles only.
 */
const PANEL = { gpu: 256, software: 64 };

const panelRows = (a: Matrix, { info }: Device): number =>
  isPair(a) ? Number.MAX_SAFE_INTEGER : PANEL[info.kind];

/** Larger blocks halve the launches of a solve but add their own half to its arithmetic. */
const chooseInverseBlock = ({ info }: Device) => (info.kind === 'software' ? 32 : 128);

/**
 * Records the Cholesky factorisation A = U^T U of a symmetric positive definite A [n,n] f32 or double-single, in place.
 * Call `check` on the result before you use the solution.
 *
 * @throws RmError INVALID_ARGUMENT when A is not square.
 */
export function cholesky(rec: Recorder, a: Matrix, options: CholeskyOptions = {}): CholeskyFactor {
  checkOperands('cholesky', rec, {});
  checkArguments('cholesky', { a, options }, { a: aMatrix, options: choleskySettings });
  const [first] = partsOf(a) as [Tensor];
  const { device, label } = first;
  const [n = 0, columns = 0] = shapeOf(a);
  ensure(
    n === columns && first.shape.length === 2 && first.dtype === 'f32',
    `cholesky of '${label}' [${first.shape}] ${first.dtype}`,
    'Pass a square f32 or double-single matrix.',
  );
  const inverseBlock = options.inverseBlock ?? chooseInverseBlock(device);
  const panel = Math.max(inverseBlock, options.panel ?? panelRows(a, device));
  const scope = new Scope(device);
  let inverses: Matrix;
  let status: Tensor;
  try {
    inverses = scratchLike(scope, a, [n, inverseBlock], 'inverse blocks');
    status = scope.tensor([2], 'u32', 'cholesky status');
    // Solves read whole blocks, including the part below the diagonal.
    for (const part of partsOf(inverses)) rec.clear(part);
    factorise(rec, a, inverses, status, { ...options, panel });
    if (inverseBlock > BLOCK) joinInverses(rec, a, inverses, options.variant);
  } catch (error) {
    scope.dispose();
    throw error;
  }
  const failedPivot = async () => {
    const words = asU32(await download(status));
    const [position = 0] = words;
    return position
      ? { index: position - 1, value: asF32(new Uint8Array(words.buffer, words.byteOffset))[1]! }
      : undefined;
  };
  return {
    u: a,
    n,
    inverses,
    inverseBlock,
    variant: options.variant,
    panel,
    owned: [...partsOf(inverses), status],
    failedPivot,
    check: async () => {
      const failed = await failedPivot();
      if (failed) throw notPositiveDefinite(label, n, failed);
    },
    dispose: () => scope.dispose(),
  };
}

/** Creates scratch in the precision of `matrix`. */
export const scratchLike = (scope: Scope, matrix: Matrix, shape: readonly number[], label: string): Matrix =>
  isPair(matrix) ? createDoubleSingle(scope, shape, label) : scope.tensor(shape, 'f32', label);

/** Records the factorisation of A and the inverses of its diagonal blocks. */
function factorise(
  rec: Recorder,
  a: Matrix,
  inverses: Matrix,
  status: Tensor,
  { panel, ...options }: CholeskyOptions & { panel: number },
): void {
  const n = shapeOf(a)[0]!;
  using scope = new Scope(status.device);
  const s = scratchLike(scope, a, [Math.min(n, BLOCK), n], 'row of blocks');
  const rest = n > panel ? scratchLike(scope, a, [panel, n], 'panel') : a;
  rec.clear(status);
  for (let first = 0; first < n; first += panel) {
    const end = Math.min(n, first + panel);
    if (first > 0) {
      blockProduct(rec, {
        out: { matrix: rest, column: first },
        from: { matrix: a, row: first, column: first },
        a: { matrix: a, column: first, transpose: true },
        b: { matrix: a, column: first },
        shape: [end - first, n - first, first],
        op: 'subtract',
        variant: options.variant,
      });
    }
    factorisePanel(rec, a, first > 0 ? rest : a, [first, end], { s, inverses, status, options });
  }
}

/** Records the rows `first` to `end` of U, given a panel of these rows of A less the products of the rows of U before. */
function factorisePanel(
  rec: Recorder,
  a: Matrix,
  panel: Matrix,
  [first, end]: readonly [first: number, end: number],
  to: { s: Matrix; inverses: Matrix; status: Tensor; options: CholeskyOptions },
): void {
  const {
    s,
    inverses,
    status,
    options: { minimumPivot = 0, variant },
  } = to;
  const [n, inverseBlock] = shapeOf(inverses) as [number, number];
  const pair = isPair(a);
  for (let start = first; start < end; start += BLOCK) {
    const size = Math.min(BLOCK, n - start);
    blockProduct(rec, {
      out: { matrix: s },
      from: { matrix: panel, row: start - first, column: start },
      a: { matrix: a, row: first, column: start, transpose: true },
      b: { matrix: a, row: first, column: start },
      shape: [size, n - start, start - first],
      op: 'subtract',
      variant,
    });
    const windows = partsOf(a).map(part => rowWindow(part, start, size));
    const column = start % inverseBlock;
    rec.dispatch({
      program: diagonalBlock(pair),
      tensors: [...partsOf(s), ...windows.map(({ tensor }) => tensor), ...partsOf(inverses), status],
      params: [
        ...[size, start, n, (start - windows[0]!.start) * n + start, n],
        ...[start * inverseBlock + column, inverseBlock, f32Bits(minimumPivot), 0],
      ],
      grid: [1],
      flops: (pair ? 22 : 2) * BLOCK ** 3,
    });
    if (start + size === n) break;
    blockProduct(rec, {
      out: { matrix: a, row: start, column: start + size },
      a: { matrix: inverses, row: start, column, transpose: true },
      b: { matrix: s, column: size },
      shape: [size, n - start - size, size],
      op: 'add',
      variant,
    });
  }
}

/** Joins the inverses of diagonal blocks of 32 into inverses of larger diagonal blocks. */
function joinInverses(rec: Recorder, u: Matrix, inverses: Matrix, variant?: BlockProductVariant): void {
  const [n, inverseBlock] = shapeOf(inverses) as [number, number];
  using scope = new Scope(partsOf(u)[0]!.device);
  const half = inverseBlock / 2;
  const [first, second] = [0, 1].map(() => scratchLike(scope, u, [half, half], 'joined inverses')) as [
    Matrix,
    Matrix,
  ];
  for (let block = BLOCK; block < inverseBlock; block *= 2) {
    for (let row = 0; row < n; row += 2 * block) {
      const corner = row + block;
      const size = Math.min(block, n - corner);
      const column = row % inverseBlock;
      if (size <= 0) continue;
      blockProduct(rec, {
        out: { matrix: first },
        a: { matrix: u, row, column: corner },
        b: { matrix: inverses, row: corner, column: column + block },
        shape: [block, size, size],
        op: 'add',
        variant,
      });
      blockProduct(rec, {
        out: { matrix: second },
        a: { matrix: inverses, row, column },
        b: { matrix: first },
        shape: [block, size, block],
        op: 'subtract',
        variant,
      });
      // This product only copies: a matrix cannot be an operand of its own product.
      blockProduct(rec, {
        out: { matrix: inverses, row, column: column + block },
        from: { matrix: second },
        a: { matrix: first },
        b: { matrix: first },
        shape: [block, size, 0],
        op: 'add',
        variant,
      });
    }
  }
}

/** Makes the error for a pivot that failed. */
export function notPositiveDefinite(
  label: string,
  n: number,
  { index, value }: { index: number; value: number },
): RmError {
  return new RmError(
    'NOT_POSITIVE_DEFINITE',
    `'${label}' [${n},${n}] is not positive definite: pivot ${index} is ${Number.isNaN(value) ? 'NaN' : value.toExponential(3)}`,
    'Add a ridge (alpha > 0), or use more tokens than the Gram matrix has dimensions.',
  );
}
