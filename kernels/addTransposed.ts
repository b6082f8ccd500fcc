/**
 * y += factor * xᵀ, f32; x [N,M], y [M,N].
 *
 * Map: one invocation per element of y, 64 per workgroup; y may be larger than a binding, x may not.
 * Features and limits: WebGPU defaults.
 */
import { f32Bits, type Recorder, type Tensor } from '../engine/index.js';
import { checkMatrix, checkTensor } from './checks.js';
import { flatProgram, runFlat } from './flat.js';
import { rowTiles } from './rowTiles.js';

const program = flatProgram({
  key: 'addTransposed',
  bindings: ['read', 'write'],
  fields: 'columns: u32, rowsAll: u32, first: u32, factor: f32',
  declarations: `
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;`,
  body: 'y[i] = y[i] + p.factor * x[(i % p.columns) * p.rowsAll + p.first + i / p.columns];',
});

/** y += factor * xᵀ; x f32 [N,M], y f32 [M,N]. @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit. */
export function addTransposed(rec: Recorder, x: Tensor, factor: number, y: Tensor): void {
  const [n, m] = checkMatrix('addTransposed', 'x', x);
  checkTensor('addTransposed', 'y', y, [m, n]);
  for (const { start, tensor } of rowTiles(y)) {
    const { size } = tensor;
    runFlat(rec, program, [x, tensor], size, [n, m, start, f32Bits(factor)], {
      flops: 2 * size,
      bytes: 12 * size,
    });
  }
}
