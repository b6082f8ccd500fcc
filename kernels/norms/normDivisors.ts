import { f32Bits, type ProgramSpec, type Recorder, type Tensor } from '../../engine/index.js';
import { checkTensor } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';

const program: ProgramSpec = flatProgram({
  key: 'normDivisors',
  bindings: ['read', 'write'],
  fields: 'columns: f32, eps: f32, scale: f32',
  declarations: `
@group(0) @binding(1) var<storage, read> lengths: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;`,
  body: `
  let rms = lengths[i] / sqrt(p.columns);
  out[i] = p.scale / sqrt(rms * rms + p.eps);`,
});

/**
 * What an RMS norm multiplies each row by, times a scale: out[t] = scale / sqrt(lengths[t]² / columns + eps); lengths [T]
 * are |row|, out [T], f32.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function normDivisors(
  rec: Recorder,
  lengths: Tensor,
  out: Tensor,
  { columns, eps, scale = 1 }: { readonly columns: number; readonly eps: number; readonly scale?: number },
): void {
  checkTensor('normDivisors', 'lengths', lengths, [lengths.size]);
  checkTensor('normDivisors', 'out', out, [lengths.size]);
  const params = [columns, eps, scale].map(f32Bits);
  runFlat(rec, program, [lengths, out], lengths.size, params, {
    flops: 4 * lengths.size,
    bytes: 8 * lengths.size,
  });
}
