import { ensure, type ProgramSpec, type Recorder, Scope, type Tensor } from '../../engine/index.js';
import { constantWord, shortened, spreadOver, typesOf, wordsOf } from '../map/map.js';
import { type MapForm, mapFields, valueWgsl } from '../map/mapProgram.js';
import { convert } from '../map/named.js';
import { isSame, layoutOf, readingOf } from '../map/operands.js';
import { checkOperands, checkTensor, floats } from '../shared/checks.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { narrowTo, scalarTensor, vec4Tensor } from '../shared/wgsl.js';
import { workgroupReduction } from '../shared/workgroup.js';
import { type Elements, type Source, sourceOf } from './reduce.js';

/**
 * Softmax along the last dimension: out = e^x / (sum of e^x of the row); x of any rank, or an expression of tensors such as
 * { map: 'x * scale + mask', inputs }, f32, f16 or bf16; out has its shape and may be an input. -infinity gives 0; a row of
 * nothing else, and one with NaN or infinity, gives NaN. @throws RmError INVALID_ARGUMENT.
 */
export const softmax = (rec: Recorder, x: Elements, out: Tensor): void =>
  record(rec, 'softmax', 'exp(x - largest) / total', x, out);

/**
 * Logarithm of the softmax along the last dimension, without its underflow: out = x - log(sum of e^x of the row); as
 * `softmax`. @throws RmError INVALID_ARGUMENT.
 */
export const logSoftmax = (rec: Recorder, x: Elements, out: Tensor): void =>
  record(rec, 'logSoftmax', '(x - largest) - log(total)', x, out);

function record(rec: Recorder, kernel: string, result: string, x: Elements, out: Tensor): void {
  checkOperands(kernel, rec, { out });
  const source = sourceOf(kernel, x);
  checkTensor(kernel, 'out', out, source.shape, floats);
  ensure(out.shape.length > 0, `${kernel}: 'out' has no dimension`, 'Pass rows.');
  spreadOver(kernel, source.text, source.inputs, source.shape, 'f32');
  if (out.size === 0) return;
  if (out.dtype === 'f32' || out.columns % 4 === 0) {
    recordRows(rec, kernel, result, source, out);
    return;
  }
  // Rows that end within a word would be written by two workgroups.
  using scope = new Scope(out.device);
  const wide = scope.tensor(out.shape, 'f32', `wide results of ${kernel}`);
  recordRows(rec, kernel, result, source, wide);
  convert(rec, wide, out);
}

const programs = new Map<string, ProgramSpec>();

function recordRows(rec: Recorder, kernel: string, result: string, source: Source, out: Tensor): void {
  const { text, inputs, shape } = source;
  const { expression, operands } = spreadOver(kernel, text, inputs, shape, 'f32');
  const layout = layoutOf(shape, operands);
  const width = out.columns % 4 === 0 ? 4 : 1;
  const elements: MapForm = {
    expression,
    width,
    tail: false,
    rank: layout.extents.length,
    out: 'f32',
    operands: operands.map(({ tensor }, k) => ({
      dtype: tensor.dtype,
      reading: readingOf(layout, k, width),
      isOut: isSame(tensor, out),
    })),
  };
  const forms = `${out.dtype} of ${elements.rank} by ${width}${typesOf(elements)}`;
  const identity = `${kernel}\n${text}\n${forms}`;
  let program = programs.get(identity);
  if (!program) {
    const label = text === 'x' ? kernel : `${kernel} ${shortened(text)}`;
    program = softmaxProgram(`${label}: ${forms}`, elements, out, result);
    programs.set(identity, program);
  }
  const bound = operands.filter((_, k) => !elements.operands[k]!.isOut).map(({ tensor }) => tensor);
  const params = [
    ...wordsOf(layout, width, elements.operands),
    ...(expression.places ? [0, out.columns] : []),
    ...expression.constants.map(constant => constantWord(kernel, inputs, constant)),
  ];
  runRows(rec, program, [out, ...bound], [out.rowCount, out.columns / width], params, {
    flops: 8 * out.size,
    bytes: out.byteLength + bound.reduce((sum, tensor) => sum + 3 * tensor.byteLength, 0),
  });
}

/** A workgroup reads its row three times: for the largest element, the sum and the results. */
function softmaxProgram(key: string, elements: MapForm, out: Tensor, result: string): ProgramSpec {
  const { width } = elements;
  const vector = width === 4;
  const half = out.dtype === 'f16' || out.dtype === 'bf16' ? out.dtype : undefined;
  const each = (f: (x: string) => string, join: string) =>
    vector ? ['x.x', 'x.y', 'x.z', 'x.w'].map(f).join(join) : f('x');
  // Some drivers make a number of exp(NaN), so NaN is kept by its bits.
  const kept = `bitcast<${vector ? 'vec4f' : 'f32'}>(bitcast<${vector ? 'vec4u' : 'u32'}>(${result}) | ${vector ? 'vec4u(nan)' : 'nan'})`;
  const loop = (statements: string) => `
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let x = value(row * p.columns + j);
    ${statements}
  }`;
  const store = half
    ? `let bits = bitcast<vec4u>(${kept});
    y_[row * p.columns + j] = vec2u(narrow(bits.x) | (narrow(bits.y) << 16u), narrow(bits.z) | (narrow(bits.w) << 16u));`
    : `y_[row * p.columns + j] = ${kept};`;
  return rowProgram({
    key,
    bindings: ['write', ...elements.operands.filter(({ isOut }) => !isOut).map(() => 'read' as const)],
    fields: mapFields(elements),
    declarations: `
${(vector ? vec4Tensor : scalarTensor)('y', 1, out.dtype, 'read_write')}
${half ? narrowTo[half] : ''}
${valueWgsl(elements)}
${workgroupReduction('most', ROW_LANES, 'f32', 'max(a, b)')}
${workgroupReduction('sum', ROW_LANES, 'f32', 'a + b')}
${workgroupReduction('any_nan', ROW_LANES, 'u32', 'a | b')}
fn nan_of(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return select(0u, 0x7fc00000u, (bits & 0x7fffffffu) >= 0x7f800000u && bits != 0xff800000u);
}`,
    body: `
  var mine = -3.4e38;
  var unsound = 0u;
  ${loop(`mine = max(mine, ${vector ? 'max(max(x.x, x.y), max(x.z, x.w))' : 'x'});
    unsound |= ${each(x => `nan_of(${x})`, ' | ')};`)}
  let largest = most(mine, lane);
  var part = 0.0;
  ${loop(`let power = exp(x - largest);
    part += ${vector ? '(power.x + power.y) + (power.z + power.w)' : 'power'};`)}
  let total = sum(part, lane);
  let nan = any_nan(unsound, lane) | select(0u, 0x7fc00000u, total == 0.0);
  ${loop(store)}`,
  });
}
