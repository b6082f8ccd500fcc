import {
  checkArguments,
  ensure,
  programFamily,
  type Recorder,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';

const program = programFamily(() =>
  flatProgram({
    key: 'padHeads',
    bindings: ['read', 'write'],
    fields: 'from_width: u32, to_width: u32',
    declarations: `@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;`,
    body: `
  let column = i % p.to_width;
  // Clamped: a column beyond from_width would be another head's.
  let value = x[i / p.to_width * p.from_width + min(column, p.from_width - 1u)];
  out[i] = select(0.0, value, column < p.from_width);`,
  }),
);

/**
 * Widens every head with zero columns, or cuts it, to the width that `out` has: out[t, head, c] = x[t, head, c], or 0 if
 * x's heads have no column c; x, out f32 [T, heads * width]. @throws RmError INVALID_ARGUMENT.
 */
export function padHeads(rec: Recorder, x: Tensor, heads: number, out: Tensor): void {
  checkOperands('padHeads', rec, { x, out });
  checkArguments('padHeads', { heads }, { heads: whole(1) });
  const [tokens, columns] = checkMatrix('padHeads', 'x', x);
  checkTensor('padHeads', 'out', out, [tokens, out.columns]);
  ensure(
    columns % heads === 0 && out.columns % heads === 0 && columns > 0,
    `padHeads: ${columns} or ${out.columns} columns cannot be divided into ${heads} heads`,
    'Columns must be a multiple of the number of heads.',
  );
  runFlat(rec, program(), [x, out], out.size, [columns / heads, out.columns / heads], {
    flops: 0,
    bytes: 4 * (x.size + out.size),
  });
}
