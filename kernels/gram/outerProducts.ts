import {
  checkArguments,
  type Device,
  ensure,
  flag,
  objectWith,
  optional,
  programFamily,
  type Recorder,
  Scope,
  settings,
  type Tensor,
} from '../../engine/index.js';
import { aPair, checkMatrix, checkTensor, maybeTensor } from '../shared/checks.js';
import { SECONDS_PER_DISPATCH } from '../shared/dispatchTime.js';
import type { DoubleSingle } from '../shared/doubleSingle.js';
import { type RowTile, rowTiles } from '../shared/rowTiles.js';
import { checkFirstUse, exactKey, notWrong } from '../shared/trustedVariants.js';
import { BROADCAST_ROWS, broadcastWgsl } from './broadcast.js';
import { layoutKey } from './commonWgsl.js';
import { OUTLIER_TILE, outlierWgsl } from './outlierProducts.js';
import { CHUNK_ROWS, columnGrid, divideRows } from './outlierRows.js';
import { TILED_TILE, tiledWgsl } from './tiled.js';
import {
  chooseOuterProducts,
  type OuterProductsChoice,
  outerProductsName,
  outerProductsVariants,
} from './variants.js';

const FAST_FLOPS = 6;
const EXACT_FLOPS = 26;

const fastBindings = ['write', 'write', ...Array<'read'>(5).fill('read')] as const;

const broadcast = programFamily((name: string, subgroup: number, weighted: boolean, whole: boolean) => ({
  key: `outer products ${name}${layoutKey({ weighted, whole })}`,
  bindings: fastBindings,
  wgsl: target => broadcastWgsl({ weighted, whole }, target, subgroup),
}));

const tiled = programFamily((name: string, weighted: boolean, whole: boolean) => ({
  key: `outer products ${name}${layoutKey({ weighted, whole })}`,
  bindings: fastBindings,
  wgsl: target => tiledWgsl({ weighted, whole }, target),
}));

const outlier = programFamily((weighted: boolean, whole: boolean) => ({
  key: `outer products of outlier rows${layoutKey({ weighted, whole })}`,
  bindings: ['write', 'write', 'read', 'read', 'read', ...(weighted ? (['read'] as const) : [])],
  wgsl: target => outlierWgsl({ weighted, whole }, target),
}));

/** Settings of `gram` and `crossGram`. */
export interface OuterProductsOptions {
  /**
   * Takes all rows through exact products (default: outliers only), at about four times the operations: the sums then have
   * errors of 48-bit arithmetic, which systems of a condition above 1e8 need.
   */
  precise?: boolean | undefined;
  /** @internal Replaces the built-in choice; for tests and measurements. */
  variant?: OuterProductsChoice | undefined;
}

const outerSettings = settings<OuterProductsOptions>({
  precise: optional(flag),
  variant: optional(objectWith('a choice of variant', 'variant')),
});

/** Values that all dispatches of one call share. */
interface Call {
  rec: Recorder;
  out: DoubleSingle;
  /** Rows of out for each dispatch. */
  windows: readonly RowTile[];
  symmetric: boolean;
  weighted: boolean;
  whole: boolean;
}

/** Some rows of x and y. */
interface Piece {
  start: number;
  x: Tensor;
  y: Tensor;
}

/**
 * Accumulates out += X^T diag(w) Y. `symmetric` promises Y = X and leaves the upper triangle undefined.
 *
 * A few outlier tokens are up to a thousand times larger than the others. The fast sum takes all other rows: it rounds
 * values to a grid per column and chunk, so that f32 adds their products exactly, and adds each chunk to the double-single
 * out. Outlier rows go through exact products.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function addOuterProducts(
  rec: Recorder,
  kernel: string,
  x: Tensor,
  y: Tensor,
  weights: Tensor | undefined,
  out: DoubleSingle,
  symmetric: boolean,
  options: OuterProductsOptions = {},
): void {
  checkArguments(
    kernel,
    { weights, out, options },
    { weights: maybeTensor, out: aPair, options: outerSettings },
  );
  const { variant, precise = false } = options;
  const [rows, m] = checkMatrix(kernel, 'x', x);
  const [rowsY, n] = checkMatrix(kernel, 'y', y);
  ensure(rows === rowsY, `${kernel}: x has ${rows} rows and y ${rowsY}`, 'Pass one row per token in both.');
  if (weights) checkTensor(kernel, 'weights', weights, [rows]);
  checkTensor(kernel, 'out.hi', out.hi, [m, n]);
  checkTensor(kernel, 'out.lo', out.lo, [m, n]);
  if (rows === 0 || m === 0 || n === 0) return;

  const { device } = x;
  const bindable = Math.floor(device.limits.maxStorageBufferBindingSize / (4 * Math.max(m, n)));
  ensure(
    bindable >= Math.min(rows, CHUNK_ROWS),
    `${kernel}: the device cannot bind ${CHUNK_ROWS} rows of '${x.label}' [${x.shape}] or '${y.label}' [${y.shape}] at once`,
    'Use a device with larger storage bindings.',
  );
  // To shorten a dispatch, take fewer tokens first; once they are a single chunk, take fewer rows of out.
  const affordable = (SECONDS_PER_DISPATCH * device.assumedRates.flops) / FAST_FLOPS;
  const elements = symmetric ? (m * m) / 2 : m * n;
  const most = Math.max(1, Math.floor(Math.min(affordable / elements, bindable) / CHUNK_ROWS)) * CHUNK_ROWS;
  const tilesY = rowTiles(y, most);
  const pieces = rowTiles(x, most).map(({ start, tensor }, i) => ({
    start,
    x: tensor,
    y: tilesY[i]!.tensor,
  }));
  const tiles = Math.max(1, Math.floor(affordable / (CHUNK_ROWS * n * TILED_TILE)));
  const windows = rowTiles(out.hi, tiles * TILED_TILE);
  const whole = m % 4 === 0 && n % 4 === 0;
  const call: Call = { rec, out, windows, symmetric, weighted: weights !== undefined, whole };

  using scope = new Scope(device);
  const fast = scope.tensor([rows]);
  const list = scope.tensor([rows + 1], 'u32');
  divideRows(rec, pieces, weights, fast, list, precise);
  const choice = variant ?? defaultOuterProducts(device);
  for (const piece of precise ? [] : pieces)
    addFast(call, piece, fast.rows(piece.start, piece.x.rowCount), choice);
  for (const piece of pieces) addOutlier(call, piece, weights, list);
}

/** The built-in choice, unless it is wrong on this device. */
const defaultOuterProducts = (device: Device): OuterProductsChoice =>
  notWrong(
    device,
    'outer products',
    chooseOuterProducts(device.info, device.features),
    outerProductsName,
    () => outerProductsVariants(device),
  );

/** What the check of a program for outer products needs to run it. */
export interface OuterProductsProgram {
  readonly choice: OuterProductsChoice;
  readonly weighted: boolean;
  /** Rows of x and y are whole vectors of 4. */
  readonly whole: boolean;
}

function addFast(call: Call, { x, y }: Piece, weights: Tensor, choice: OuterProductsChoice): void {
  const { rec, symmetric, weighted, whole } = call;
  const chunks = Math.ceil(x.rowCount / CHUNK_ROWS);
  using scope = new Scope(x.device);
  const gridX = scope.tensor([chunks, x.columns]);
  columnGrid(rec, x, weights, weighted, gridX);
  let gridY = gridX;
  if (!symmetric || weighted) {
    gridY = scope.tensor([chunks, y.columns]);
    columnGrid(rec, y, weights, false, gridY);
  }
  const name = outerProductsName(choice);
  const isTiled = choice.variant === 'tiled';
  const [tileRows, tileColumns] = isTiled ? [TILED_TILE, TILED_TILE] : [BROADCAST_ROWS, 4 * choice.subgroup];
  const program = isTiled ? tiled(name, weighted, whole) : broadcast(name, choice.subgroup, weighted, whole);
  checkFirstUse<OuterProductsProgram>(rec, x.device, exactKey(x.device, program.key), () => ({
    kernel: 'outer products',
    variant: name,
    details: { choice, weighted, whole },
  }));
  forWindows(call, x, 0, (tensors, params, window, elements) =>
    rec.dispatch({
      program,
      tensors: [...tensors, x, y, weights, gridX, gridY],
      params,
      grid: [Math.ceil(y.columns / tileColumns), Math.ceil(window / tileRows)],
      flops: FAST_FLOPS * x.rowCount * elements,
      bytes: x.byteLength + y.byteLength + 16 * elements * (isTiled ? 1 : chunks),
    }),
  );
}

function addOutlier(call: Call, { start, x, y }: Piece, weights: Tensor | undefined, list: Tensor): void {
  const extra = weights ? [weights.rows(start, x.rowCount)] : [];
  forWindows(call, x, start, (tensors, params, window, elements) =>
    call.rec.dispatch({
      program: outlier(call.weighted, call.whole),
      tensors: [...tensors, x, y, list, ...extra],
      params,
      grid: [Math.ceil(y.columns / OUTLIER_TILE), Math.ceil(window / OUTLIER_TILE)],
      // An estimate: one row per chunk, as in models whose first token is far from the others.
      flops: EXACT_FLOPS * Math.ceil(x.rowCount / CHUNK_ROWS) * elements,
    }),
  );
}

/** Calls `record` for every window of out, with both its parts, the parameters, its rows and the elements computed. */
function forWindows(
  { out, windows, symmetric }: Call,
  x: Tensor,
  firstToken: number,
  record: (tensors: Tensor[], params: number[], rows: number, elements: number) => void,
): void {
  const n = out.hi.columns;
  for (const { start, tensor } of windows) {
    const rows = tensor.rowCount;
    const params = [x.rowCount, out.hi.rowCount, n, symmetric ? 1 : 0, start, rows, firstToken, 0];
    const elements = rows * (symmetric ? start + rows / 2 : n);
    record([tensor, out.lo.rows(start, rows)], params, rows, elements);
  }
}
