import {
  type Access,
  f32Bits,
  type ProgramSpec,
  programFamily,
  type Recorder,
  Scope,
  type Tensor,
} from '../../engine/index.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { workgroupReduction } from '../shared/workgroup.js';

/** Rows that are summed in f32 before a double-single addition. */
export const CHUNK_ROWS = 256;
/** A row is an outlier if its magnitude exceeds this many times the geometric mean. */
const THRESHOLD = 64;
const LANES = 256;

const magnitudeBindings = (weighted: boolean): Access[] => [
  ...(['read', 'read', 'write'] as const),
  ...(weighted ? (['read'] as const) : []),
];

const magnitudeDeclarations = (weighted: boolean): string => /* wgsl */ `
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
${weighted ? '@group(0) @binding(4) var<storage, read> weights: array<f32>;' : ''}
fn magnitude(row: u32, squares: vec2f) -> f32 {
  let norms = sqrt(min(squares, vec2f(3e38)));
  return ${weighted ? 'abs(weights[row]) * ' : ''}norms.x * norms.y;
}`;

/** Computes |w| |x| |y| of every row, one workgroup per row. */
const magnitude = programFamily((weighted: boolean) =>
  rowProgram({
    key: `row magnitude${weighted ? ' weighted' : ''}`,
    bindings: magnitudeBindings(weighted),
    fields: 'columnsY: u32',
    declarations: `${magnitudeDeclarations(weighted)}
${workgroupReduction('sum', ROW_LANES, 'vec2f', 'a + b')}`,
    body: `
  var squares = vec2f();
  for (var i = lane; i < p.columns; i += ${ROW_LANES}u) { let v = x[row * p.columns + i]; squares.x += v * v; }
  for (var i = lane; i < p.columnsY; i += ${ROW_LANES}u) { let v = y[row * p.columnsY + i]; squares.y += v * v; }
  let total = sum(squares, lane);
  if (lane == 0u) { out[row] = magnitude(row, total); }`,
  }),
);

/** The same with one invocation per row, for drivers that run on the CPU, where barriers take most of the time. */
const magnitudePerLane = programFamily((weighted: boolean) =>
  flatProgram({
    key: `row magnitude per lane${weighted ? ' weighted' : ''}`,
    bindings: magnitudeBindings(weighted),
    fields: 'columns: u32, columnsY: u32',
    declarations: magnitudeDeclarations(weighted),
    body: `
  var squares = vec2f();
  for (var c = 0u; c < p.columns; c++) { let v = x[i * p.columns + c]; squares.x += v * v; }
  for (var c = 0u; c < p.columnsY; c++) { let v = y[i * p.columnsY + c]; squares.y += v * v; }
  out[i] = magnitude(i, squares);`,
  }),
);

/** Computes, in one workgroup, the threshold, every row's weight in the fast sum and the ascending list of outlier rows. */
const divide = programFamily((weighted: boolean) => ({
  key: `outlier rows${weighted ? ' weighted' : ''}`,
  bindings: ['read', 'write', 'write', ...(weighted ? (['read'] as const) : [])],
  wgsl: () => /* wgsl */ `
struct Params { rows: u32, threshold: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> magnitude: array<f32>;
@group(0) @binding(2) var<storage, read_write> fast: array<f32>;
/** The number of outlier rows, then their indices. */
@group(0) @binding(3) var<storage, read_write> outlier: array<u32>;
${weighted ? '@group(0) @binding(4) var<storage, read> weights: array<f32>;' : ''}
${workgroupReduction('sum', LANES, 'vec2f', 'a + b')}
var<workgroup> counts: array<u32, ${LANES}>;
@compute @workgroup_size(${LANES}) fn main(@builtin(local_invocation_index) lane: u32) {
  let share = (p.rows + ${LANES - 1}u) / ${LANES}u;
  let start = min(p.rows, lane * share);
  let end = min(p.rows, start + share);
  var logs = vec2f();
  for (var k = start; k < end; k++) {
    if (magnitude[k] > 0.0) { logs += vec2f(log2(magnitude[k]), 1.0); }
  }
  let total = sum(logs, lane);
  let limit = p.threshold * exp2(total.x / max(total.y, 1.0));
  var count = 0u;
  for (var k = start; k < end; k++) {
    let regular = magnitude[k] <= limit;
    fast[k] = select(0.0, ${weighted ? 'weights[k]' : '1.0'}, regular);
    count += select(1u, 0u, regular);
  }
  counts[lane] = count;
  workgroupBarrier();
  var at = 1u;
  for (var i = 0u; i < lane; i++) { at += counts[i]; }
  for (var k = start; k < end; k++) {
    if (!(magnitude[k] <= limit)) { outlier[at] = k; at++; }
  }
  if (lane == ${LANES - 1}u) { outlier[0] = at - 1u; }
}`,
}));

/**
 * Computes the grids: q[c, j] = 2^-12 times a power of two that is at least the norm of column j over chunk c. Products of
 * values rounded to multiples of q are multiples of q_i q_j. By Cauchy-Schwarz every partial sum over the chunk is at most
 * 2^24 such multiples, so f32 adds them without rounding.
 */
const grid: ProgramSpec = flatProgram({
  key: 'column grid',
  bindings: ['read', 'read', 'write'],
  fields: 'rows: u32, columns: u32, weighted: u32',
  declarations: `
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> q: array<f32>;`,
  body: `
  let column = i % p.columns;
  let start = (i / p.columns) * ${CHUNK_ROWS}u;
  var sum = 0.0;
  for (var k = start; k < min(p.rows, start + ${CHUNK_ROWS}u); k++) {
    let w = weights[k];
    let v = select(select(0.0, 1.0, w != 0.0), w, p.weighted != 0u) * x[k * p.columns + column];
    sum += v * v;
  }
  // The margin covers the rounding of the norm and of the values to the grid; the clamp keeps 1 / q finite.
  let exponent = clamp(bitcast<u32>(1.01 * sqrt(sum)) >> 23u, 30u, 220u) + 1u;
  q[i] = bitcast<f32>((exponent - 12u) << 23u);`,
});

/**
 * Divides the rows between the fast and the exact sum, or gives all to the exact one. Writes fast [T], the weight of every row in the fast sum (0 for
 * outliers), and outlier u32 [T + 1], the number of outlier rows and then their indices. The pieces cover X [T,m] and
 * Y [T,n] in order.
 */
export function divideRows(
  rec: Recorder,
  pieces: readonly { start: number; x: Tensor; y: Tensor }[],
  weights: Tensor | undefined,
  fast: Tensor,
  outlier: Tensor,
  allExact = false,
): void {
  const rows = fast.size;
  const weighted = weights !== undefined;
  using scope = new Scope(fast.device);
  const magnitudes = scope.tensor([rows]);
  for (const { start, x, y } of pieces) {
    const part = (tensor: Tensor) => tensor.rows(start, x.rowCount);
    const tensors = [x, y, part(magnitudes), ...(weights ? [part(weights)] : [])];
    const work = { flops: 2 * (x.size + y.size), bytes: x.byteLength + y.byteLength };
    if (fast.device.info.kind === 'software') {
      runFlat(rec, magnitudePerLane(weighted), tensors, x.rowCount, [x.columns, y.columns], work);
    } else {
      runRows(rec, magnitude(weighted), tensors, [x.rowCount, x.columns], [y.columns], work);
    }
  }
  rec.dispatch({
    program: divide(weighted),
    tensors: [magnitudes, fast, outlier, ...(weights ? [weights] : [])],
    params: [rows, f32Bits(allExact ? -1 : THRESHOLD)],
    grid: [1],
    bytes: 16 * rows,
  });
}

/** Grids q [chunks, columns] of weights[k] * x[k, j] if `weighted`, else of x[k, j] in rows with a weight other than 0. */
export function columnGrid(rec: Recorder, x: Tensor, weights: Tensor, weighted: boolean, q: Tensor): void {
  runFlat(rec, grid, [x, weights, q], q.size, [x.rowCount, x.columns, weighted ? 1 : 0], {
    flops: 3 * x.size,
    bytes: x.byteLength,
  });
}
