import { programFamily, type Recorder, type Tensor } from '../../engine/index.js';
import { checkOperands, checkTensor, type FloatType, floats } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { rowTiles } from '../shared/rowTiles.js';

/** The exponent bits of an element, which are all set in NaN and infinity. */
const exponents: Record<FloatType, number> = { f32: 0x7f800000, f16: 0x7c00, bf16: 0x7f80 };

/** `type`: the words that one invocation reads; vec4u if the number of words is a multiple of 4. */
const program = programFamily((dtype: FloatType, type: 'vec4u' | 'u32') => {
  // Only the scalar form can meet a last word whose upper half lies beyond the tensor.
  const halves =
    type === 'vec4u'
      ? 'bad(w & T(0xffffu)) + bad(w >> T(16u))'
      : 'bad(w & 0xffffu) + select(0u, bad(w >> 16u), 2u * i + 1u < p.elements)';
  return flatProgram({
    key: `countNonFinite ${dtype} ${type}`,
    bindings: ['read', 'write'],
    fields: 'exponent: u32, elements: u32',
    declarations: `
alias T = ${type};
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read_write> counter: atomic<u32>;
fn bad(bits: T) -> T { return select(T(0u), T(1u), (bits & T(p.exponent)) == T(p.exponent)); }
fn total(v: T) -> u32 { return ${type === 'vec4u' ? 'v.x + v.y + v.z + v.w' : 'v'}; }`,
    body: `
  let w = x[i];
  let found = total(${dtype === 'f32' ? 'bad(w)' : halves});
  if (found > 0u) { atomicAdd(&counter, found); }`,
  });
});

/**
 * Counts NaN and infinite elements of x (f32, f16 or bf16, any shape): counter[0] += their number; counter [1] u32.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function countNonFinite(rec: Recorder, x: Tensor, counter: Tensor): void {
  checkOperands('countNonFinite', rec, { x, counter });
  checkTensor('countNonFinite', 'x', x, x.shape, floats);
  checkTensor('countNonFinite', 'counter', counter, [1], ['u32']);
  const dtype = x.dtype as FloatType;
  for (const { tensor } of rowTiles(x.reshape([x.size, 1]))) {
    const whole = tensor.byteLength % 16 === 0;
    const count = Math.ceil(tensor.byteLength / (whole ? 16 : 4));
    const spec = program(dtype, whole ? 'vec4u' : 'u32');
    runFlat(rec, spec, [tensor, counter], count, [exponents[dtype], tensor.size], {
      flops: 0,
      bytes: tensor.byteLength,
    });
  }
}
