import { programFamily, type Recorder, type Tensor } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, flatType, runFlat } from '../shared/flat.js';
import type { ExpertRows } from './groupByExpert.js';

const program = programFamily((type: 'vec4f' | 'f32') =>
  flatProgram({
    key: `addExperts ${type}`,
    bindings: ['read', 'read', 'read', 'write'],
    fields: 'columns: u32, taken: u32',
    declarations: `
@group(0) @binding(1) var<storage, read> x: array<${type}>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
@group(0) @binding(3) var<storage, read> places: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<${type}>;`,
    body: `
  let token = i / p.columns;
  let column = i % p.columns;
  var sum = ${type}(0.0);
  for (var e = 0u; e < p.taken; e++) {
    let row = places[token * p.taken + e];
    if (row > 0u) { sum += factors[row - 1u] * x[(row - 1u) * p.columns + column]; }
  }
  out[i] += sum;`,
  }),
);

/**
 * Adds the outputs of experts to their tokens: out[t] += the sum of factors[r] * x[r] over the rows r of token t, by expert;
 * x [A,N], out [T,N], f32. @throws RmError INVALID_ARGUMENT.
 */
export function addExperts(
  rec: Recorder,
  x: Tensor,
  { factors, places }: Pick<ExpertRows, 'factors' | 'places'>,
  out: Tensor,
): void {
  checkOperands('addExperts', rec, { x, factors, places, out });
  const [rows, columns] = checkMatrix('addExperts', 'x', x);
  const [tokens, taken] = checkMatrix('addExperts', 'places', places, ['u32']);
  checkTensor('addExperts', 'factors', factors, [rows]);
  checkTensor('addExperts', 'out', out, [tokens, columns]);
  const { type, width } = flatType(columns);
  runFlat(rec, program(type), [x, factors, places, out], out.size / width, [columns / width, taken], {
    flops: 2 * x.size,
    bytes: 4 * (x.size + 2 * out.size),
  });
}
