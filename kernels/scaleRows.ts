/**
 * Rows of a matrix times one number each: out[t, :] = weights[t] * x[t, :].
 *
 * Shapes: x, out [T, N] f32; weights [T] f32. x and out may be larger than a binding.
 * Map: one invocation per vec4 (per element where N is no multiple of 4), 64 per workgroup.
 * Features and limits: WebGPU defaults.
 */
import { type ProgramSpec, programFamily, type Recorder, type Tensor } from '../engine/index.js';
import { checkMatrix, checkTensor } from './checks.js';
import { flatProgram, flatType, runFlat } from './flat.js';
import { rowTiles } from './rowTiles.js';

const program = programFamily(
  (type: 'vec4f' | 'f32'): ProgramSpec =>
    flatProgram({
      key: `scaleRows ${type}`,
      bindings: ['read', 'read', 'write'],
      fields: 'width: u32, firstRow: u32',
      declarations: `
@group(0) @binding(1) var<storage, read> x: array<${type}>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<${type}>;`,
      body: '  out[i] = weights[p.firstRow + i / p.width] * x[i];',
    }),
);

/** out[t,:] = weights[t] * x[t,:]; x, out [T,N] f32, weights [T] f32. */
export function scaleRows(rec: Recorder, x: Tensor, weights: Tensor, out: Tensor): void {
  const [rows, columns] = checkMatrix('scaleRows', 'x', x);
  checkTensor('scaleRows', 'weights', weights, [rows]);
  checkTensor('scaleRows', 'out', out, [rows, columns]);
  const { type, width } = flatType(columns);
  for (const { start, tensor } of rowTiles(x)) {
    const tensors = [tensor, weights, out.rows(start, tensor.rowCount)];
    runFlat(rec, program(type), tensors, tensor.size / width, [columns / width, start], {
      flops: tensor.size,
      bytes: 8 * tensor.size,
    });
  }
}
