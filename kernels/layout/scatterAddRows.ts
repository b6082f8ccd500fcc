import {
  byteSize,
  type DType,
  programFamily,
  type Recorder,
  Scope,
  type Tensor,
} from '../../engine/index.js';
import { convert } from '../map/named.js';
import { checkMatrix, checkOperands, checkTensor, floats } from '../shared/checks.js';
import { flatProgram, flatType, runFlat } from '../shared/flat.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { rowTiles } from '../shared/rowTiles.js';
import { elementType, scalarTensor, vec4Tensor } from '../shared/wgsl.js';

/** Rows that are compared with each other at a time. */
const MOST = 4096;
const NONE = '0xffffffffu';

/** For each row: whether it is the first with its id (else NONE), and the next one with it (NONE after the last). */
const links = programFamily(() =>
  flatProgram({
    key: 'scatterAddRows links',
    bindings: ['read', 'write'],
    fields: 'first: u32',
    declarations: `
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> links: array<vec2u>;`,
    body: `
  let id = ids[p.first + i];
  var before = 0u;
  while (before < i && ids[p.first + before] != id) { before++; }
  var next = i + 1u;
  while (next < p.count && ids[p.first + next] != id) { next++; }
  links[i] = vec2u(select(${NONE}, i, before == i), select(${NONE}, next, next < p.count));`,
  }),
);

/** The workgroup of the first row with an id adds all rows that have it, in their order. */
const sums = programFamily((dtype: DType, vector: boolean) => {
  const type = elementType(dtype, vector);
  return rowProgram({
    key: `scatterAddRows ${dtype} ${type}`,
    bindings: ['read', 'read', 'read', 'write'],
    fields: 'first: u32, start: u32, end: u32',
    declarations: `${(vector ? vec4Tensor : scalarTensor)('x', 1, dtype)}
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read> links: array<vec2u>;
@group(0) @binding(4) var<storage, read_write> out: array<${type}>;`,
    body: `
  let id = ids[p.first + row];
  if (links[row].x == ${NONE} || id < p.start || id >= p.end) { return; }
  let to = (id - p.start) * p.columns;
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    var sum = x((p.first + row) * p.columns + j);
    for (var t = links[row].y; t != ${NONE}; t = links[t].y) { sum += x((p.first + t) * p.columns + j); }
    out[to + j] += sum;
  }`,
  });
});

/**
 * Adds rows where ids say: out[ids[t]] += x[t]; x [T,N], ids [T] u32, out [V,N]: both of any float dtype, or both u32. Rows
 * with one id are added in their order, in f32, so the same inputs give the same bits. Ids of V or more add nothing.
 *
 * @throws RmError INVALID_ARGUMENT.
 */
export function scatterAddRows(rec: Recorder, x: Tensor, ids: Tensor, out: Tensor): void {
  checkOperands('scatterAddRows', rec, { x, ids, out });
  scatterAdd(rec, 'scatterAddRows', x, ids, out, x.dtype === 'u32' ? ['u32'] : floats);
}

/**
 * Backward pass of `embedding`: tableGradient[ids[t]] += gradient[t]; ids u32 [T], gradient f32 [T,D], tableGradient f32
 * [V,D]. The same inputs give the same bits. @throws RmError INVALID_ARGUMENT.
 */
export function embeddingBackward(rec: Recorder, ids: Tensor, gradient: Tensor, tableGradient: Tensor): void {
  checkOperands('embeddingBackward', rec, { ids, gradient, tableGradient });
  scatterAdd(rec, 'embeddingBackward', gradient, ids, tableGradient, ['f32']);
}

function scatterAdd(
  rec: Recorder,
  kernel: string,
  x: Tensor,
  ids: Tensor,
  out: Tensor,
  dtypes: readonly DType[],
): void {
  const [rows, columns] = checkMatrix(kernel, 'x', x, dtypes);
  checkTensor(kernel, 'ids', ids, [rows], ['u32']);
  const [targets] = checkMatrix(kernel, 'out', out, dtypes);
  checkTensor(kernel, 'out', out, [targets, columns], dtypes);
  using scope = new Scope(out.device);
  // Sums are rounded once, at the end.
  const half = byteSize(out.dtype) === 2;
  const wide = half ? scope.tensor(out.shape, 'f32', 'wide sums') : out;
  if (half) convert(rec, out, wide);
  const { type, width } = flatType(columns);
  const chain = scope.tensor([Math.min(rows, MOST), 2], 'u32', 'rows by id');
  for (let first = 0; first < rows; first += MOST) {
    const count = Math.min(MOST, rows - first);
    runFlat(rec, links(), [ids, chain], count, [first], { flops: count * count, bytes: 12 * count });
    for (const { start, tensor } of rowTiles(wide)) {
      const params = [first, start, start + tensor.rowCount];
      runRows(
        rec,
        sums(x.dtype, type === 'vec4f'),
        [x, ids, chain, tensor],
        [count, columns / width],
        params,
        {
          flops: count * columns,
          bytes: 12 * count * columns,
        },
      );
    }
  }
  if (half) convert(rec, wide, out);
}
