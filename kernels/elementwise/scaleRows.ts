import { ensure, type ProgramSpec, programFamily, type Recorder, type Tensor } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, flatType, runFlat } from '../shared/flat.js';
import { rowTiles } from '../shared/rowTiles.js';

const program = programFamily(
  (type: 'vec4f' | 'f32'): ProgramSpec =>
    flatProgram({
      key: `scaleRows ${type}`,
      bindings: ['read', 'read', 'write'],
      fields: 'width: u32, firstRow: u32, widthX: u32, first: u32',
      declarations: `
@group(0) @binding(1) var<storage, read> x: array<${type}>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<${type}>;`,
      body: `
  let row = i / p.width;
  out[i] = weights[p.firstRow + row] * x[row * p.widthX + p.first + i % p.width];`,
    }),
);

/**
 * Multiplies each row by its weight: out[t,j] = weights[t] * x[t, first + j]; x [T,N], out [T,M], weights [T], all f32.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function scaleRows(rec: Recorder, x: Tensor, weights: Tensor, out: Tensor, first = 0): void {
  checkOperands('scaleRows', rec, { x, weights, out });
  const [rows, columns] = checkMatrix('scaleRows', 'x', x);
  checkTensor('scaleRows', 'weights', weights, [rows]);
  checkTensor('scaleRows', 'out', out, [rows, out.columns]);
  ensure(
    first >= 0 && first + out.columns <= columns,
    `scaleRows: columns ${first} to ${first + out.columns - 1} of '${x.label}' [${x.shape}]`,
    'Stay within the columns of x.',
  );
  const { type, width } = [columns, out.columns, first].every(size => size % 4 === 0)
    ? flatType(out.columns)
    : { type: 'f32' as const, width: 1 };
  for (const { start, tensor } of rowTiles(x)) {
    const target = out.rows(start, tensor.rowCount);
    const params = [out.columns / width, start, columns / width, first / width];
    runFlat(rec, program(type), [tensor, weights, target], target.size / width, params, {
      flops: target.size,
      bytes: 8 * target.size,
    });
  }
}
