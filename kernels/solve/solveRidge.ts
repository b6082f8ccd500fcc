import {
  checkArguments,
  type Device,
  downloadF32,
  downloadU32,
  ensure,
  f32Bits,
  flag,
  optional,
  type ProgramSpec,
  type Recorder,
  RmError,
  Scope,
  settings,
  Tensor,
  tensorFrom,
  text,
} from '../../engine/index.js';
import { blockProduct } from '../blockProduct/blockProduct.js';
import { scaleRows } from '../map/named.js';
import { matmul } from '../matmul/matmul.js';
import { countNonFinite } from '../reductions/countNonFinite.js';
import { aDevice, aTensor, checkMatrix, checkTensor, iterable } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { rowTiles } from '../shared/rowTiles.js';
import { workgroupReduction } from '../shared/workgroup.js';
import { cholesky, notPositiveDefinite } from './cholesky.js';
import { downloadDiagonal, equilibration } from './equilibration.js';
import { solveFactored } from './triangularSolve.js';

/** Share of the mean diagonal that is added to a scaled ridge: a feature that is always 0 gets no ridge from itself. */
const LEAST_SHIFT = 1e-6;

/** Settings of `solveRidgePath`. */
export interface RidgePathOptions {
  /** Adds ridge * diag(G) instead of ridge * I, as if all columns of the features had the same norm. */
  scaled?: boolean | undefined;
  /** Name of G in messages. */
  label?: string | undefined;
}

const ridgeSettings = settings<RidgePathOptions>({ scaled: optional(flag), label: optional(text) });

/** The solution for one ridge of a path. */
export interface RidgeSolution {
  ridge: number;
  /** [n,r] f32; the caller disposes it. */
  x: Tensor;
}

const equilibrated: ProgramSpec = flatProgram({
  key: 'equilibrate f32',
  bindings: ['read', 'read', 'write'],
  fields: 'columns: u32, firstRow: u32, shift: f32, share: f32',
  declarations: `
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> s: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;`,
  body: `
  let row = p.firstRow + i / p.columns;
  let column = i % p.columns;
  let ridge = select(0.0, p.shift + p.share * a[i], row == column);
  out[i] = (a[i] + ridge) * s[row] * s[column];`,
});

/** The ridge shift I + share diag(G). */
interface Ridge {
  readonly shift: number;
  readonly share: number;
}

/** out = S (A + shift I + share diag(A)) S */
function equilibrate(rec: Recorder, a: Tensor, s: Tensor, { shift, share }: Ridge, out: Tensor): void {
  for (const { start, tensor } of rowTiles(a)) {
    const { size } = tensor;
    const tensors = [tensor, s, out.rows(start, tensor.rowCount)];
    runFlat(rec, equilibrated, tensors, size, [a.columns, start, f32Bits(shift), f32Bits(share)], {
      flops: 3 * size,
      bytes: 8 * size,
    });
  }
}

/**
 * Solves the ridge regression (G + ridge I) X = C for each ridge, in order, in f32: gram G [n,n] symmetric with both
 * triangles, cross C [n,r], X [n,r]. Ridges are above 0, in G's units or, with `scaled`, as shares of G's diagonal. G and
 * C stay unchanged. The caller owns each X and may dispose it before taking the next. A failure ends the path, so pass
 * large ridges first.
 *
 * @throws RmError NOT_POSITIVE_DEFINITE, which names the pivot, when G + ridge I is singular in f32; NOT_FINITE,
 * INVALID_ARGUMENT.
 */
export async function* solveRidgePath(
  device: Device,
  gram: Tensor,
  cross: Tensor,
  ridges: Iterable<number>,
  options: RidgePathOptions = {},
): AsyncGenerator<RidgeSolution, void, undefined> {
  checkArguments(
    'solveRidgePath',
    { device, gram, cross, ridges, options },
    { device: aDevice, gram: aTensor, cross: aTensor, ridges: iterable, options: ridgeSettings },
  );
  const { scaled = false, label = gram.label } = options;
  const [n] = checkMatrix('solveRidgePath', 'gram', gram);
  const [, r] = checkMatrix('solveRidgePath', 'cross', cross);
  checkTensor('solveRidgePath', 'gram', gram, [n, n]);
  checkTensor('solveRidgePath', 'cross', cross, [n, r]);
  using scope = new Scope(device);
  const diagonal = await downloadDiagonal(device.recorder, gram);
  const mean = diagonal.reduce((sum, value) => sum + value, 0) / n;
  const factor = scope.tensor([n, n], 'f32', 'factor');
  const work = scope.tensor([n, r], 'f32', 'equilibrated solution');
  for (const ridge of ridges) {
    if (!(Number.isFinite(ridge) && ridge > 0))
      throw new RmError(
        'INVALID_ARGUMENT',
        `solveRidgePath: the ridge is ${String(ridge)}`,
        'Pass ridges above 0.',
      );
    const x = Tensor.create(device, [n, r], 'f32', 'ridge solution');
    try {
      const terms = scaled ? { shift: LEAST_SHIFT * mean, share: ridge } : { shift: ridge, share: 0 };
      const ridged = diagonal.map(value => value + terms.share * value);
      const factors = equilibration(ridged, terms.shift, label);
      await solve(gram, cross, terms, x, { factor, work, factors, label });
    } catch (error) {
      x.dispose();
      throw error;
    }
    yield { ridge, x };
  }
}

async function solve(
  gram: Tensor,
  cross: Tensor,
  ridge: Ridge,
  x: Tensor,
  { factor, work, factors, label }: { factor: Tensor; work: Tensor; factors: Float32Array; label: string },
): Promise<void> {
  const { device } = x;
  const rec = device.recorder;
  const n = gram.columns;
  using scope = new Scope(device);
  const s = scope.own(tensorFrom(device, factors));
  const nonFinite = scope.tensor([1], 'u32', 'elements that are not finite');
  rec.clear(nonFinite);
  equilibrate(rec, gram, s, ridge, factor);
  const factored = cholesky(rec, factor);
  try {
    scaleRows(rec, cross, s, work);
    solveFactored(rec, factored, work);
    scaleRows(rec, work, s, x);
    countNonFinite(rec, x, nonFinite);
    const failed = await factored.failedPivot();
    if (failed && !Number.isNaN(failed.value)) throw notPositiveDefinite(label, n, failed);
    const [count = 0] = await downloadU32(nonFinite);
    if (failed || count)
      throw new RmError(
        'NOT_FINITE',
        failed
          ? `'${label}' [${n},${n}] has NaN or infinity in row ${failed.index} or before`
          : `the solution of '${label}' [${n},${n}] has ${count} elements that are not finite`,
        'Look for NaN or infinity in the weights of the model or in its activations.',
      );
  } finally {
    factored.dispose();
  }
}

/** out[i] = x[i].(product[i] - 2 cross[i]) */
const lossRows: ProgramSpec = rowProgram({
  key: 'quadraticLoss',
  bindings: ['read', 'read', 'read', 'write'],
  declarations: `
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> product: array<f32>;
@group(0) @binding(3) var<storage, read> cross: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
${workgroupReduction('sum', ROW_LANES, 'f32', 'a + b')}`,
  body: `
  var mine = 0.0;
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let at = row * p.columns + j;
    mine += x[at] * (product[at] - 2.0 * cross[at]);
  }
  let total = sum(mine, lane);
  if (lane == 0u) { out[row] = total; }`,
});

/** out = G X */
function multiply(rec: Recorder, gram: Tensor, x: Tensor, out: Tensor): void {
  if (x.byteLength > x.device.limits.maxStorageBufferBindingSize) {
    const [n, r] = [x.rowCount, x.columns];
    blockProduct(rec, {
      out: { matrix: out },
      a: { matrix: gram },
      b: { matrix: x },
      shape: [n, r, n],
      op: 'add',
    });
    return;
  }
  for (const { start, tensor } of rowTiles(gram)) matmul(rec, tensor, x, out.rows(start, tensor.rowCount));
}

/**
 * Computes the squared error of a linear map from its statistics: tr(X' G X) - 2 tr(X' C), which is
 * |Y - H X|_F^2 - |Y|_F^2 for inputs H and targets Y with G = H' H and C = H' Y. gram G [n,n] symmetric, cross C and X
 * [n,r], f32. G X and the sums along its rows are f32; the sum over rows is f64.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export async function quadraticLoss(device: Device, gram: Tensor, cross: Tensor, x: Tensor): Promise<number> {
  const given = { device, gram, cross, x };
  checkArguments('quadraticLoss', given, { device: aDevice, gram: aTensor, cross: aTensor, x: aTensor });
  return (await quadraticLosses(device, gram, cross, x, 1))[0]!;
}

/** `quadraticLoss` of several maps side by side: C and X are divided into `maps` blocks of columns of equal width. */
export async function quadraticLosses(
  device: Device,
  gram: Tensor,
  cross: Tensor,
  x: Tensor,
  maps: number,
): Promise<number[]> {
  const [n, r] = checkMatrix('quadraticLoss', 'x', x);
  checkTensor('quadraticLoss', 'gram', gram, [n, n]);
  checkTensor('quadraticLoss', 'cross', cross, [n, r]);
  ensure(
    r % maps === 0,
    `quadraticLoss: ${r} columns for ${maps} maps`,
    'Give all maps the same number of columns.',
  );
  const rec = device.recorder;
  using scope = new Scope(device);
  const product = scope.tensor([n, r], 'f32', 'G X');
  multiply(rec, gram, x, product);
  const width = r / maps;
  const sums = rowTiles(x).map(({ start, tensor }) => {
    const rows = tensor.rowCount;
    const out = scope.tensor([rows * maps]);
    // Each map's part of a row becomes a row.
    const rowsOf = (all: Tensor) => all.rows(start, rows).reshape([rows * maps, width]);
    runRows(rec, lossRows, [rowsOf(x), rowsOf(product), rowsOf(cross), out], [rows * maps, width], [], {
      flops: 4 * rows * r,
      bytes: 12 * rows * r,
    });
    return out;
  });
  const totals = new Array<number>(maps).fill(0);
  for (const tensor of sums) {
    for (const [at, value] of (await downloadF32(tensor)).entries()) totals[at % maps]! += value;
  }
  return totals;
}
