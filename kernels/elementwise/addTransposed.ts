import { f32Bits, type Recorder, type Tensor } from '../../engine/index.js';
import { checkMatrix, checkTensor } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { rowTiles } from '../shared/rowTiles.js';

const program = flatProgram({
  key: 'addTransposed',
  bindings: ['read', 'write'],
  fields: 'rowsX: u32, firstX: u32, n: u32, firstY: u32, m: u32, factor: f32',
  declarations: `
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;`,
  body: `
  let row = i / p.rowsX;
  let column = i % p.rowsX;
  let at = row * p.n + p.firstX + column;
  y[at] = y[at] + p.factor * x[column * p.m + p.firstY + row];`,
});

/** Adds a transpose: y += factor * xᵀ; x f32 [N,M], y f32 [M,N]. @throws RmError INVALID_ARGUMENT. */
export function addTransposed(rec: Recorder, x: Tensor, factor: number, y: Tensor): void {
  const [n, m] = checkMatrix('addTransposed', 'x', x);
  checkTensor('addTransposed', 'y', y, [m, n]);
  for (const from of rowTiles(x)) {
    for (const to of rowTiles(y)) {
      const size = from.tensor.rowCount * to.tensor.rowCount;
      const params = [from.tensor.rowCount, from.start, n, to.start, m, f32Bits(factor)];
      runFlat(rec, program, [from.tensor, to.tensor], size, params, { flops: 2 * size, bytes: 12 * size });
    }
  }
}
