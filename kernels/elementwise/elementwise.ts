import { type Access, f32Bits, programFamily, type Recorder, type Tensor } from '../../engine/index.js';
import { checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, flatType, runFlat } from '../shared/flat.js';
import { rowTiles } from '../shared/rowTiles.js';

const statements = {
  add: 'y[i] = a[i] + b[i];',
  addInto: 'y[i] = y[i] + a[i];',
  axpy: 'y[i] = y[i] + p.factor * a[i];',
  scale: 'y[i] = p.factor * y[i];',
};

/** Names of the operands, in the order of the bindings. */
const operands = ['output', 'a', 'b'];

/** The first binding is the output `y`; the inputs follow. */
const program = programFamily((name: keyof typeof statements, inputs: number, type: 'f32' | 'vec4f') => {
  const declare = (input: string, i: number) =>
    `@group(0) @binding(${i + 2}) var<storage, read> ${input}: array<${type}>;`;
  const names = operands.slice(1, inputs + 1);
  return flatProgram({
    key: `${name} ${type}`,
    bindings: ['write', ...names.map((): Access => 'read')],
    fields: 'factor: f32',
    declarations: `@group(0) @binding(1) var<storage, read_write> y: array<${type}>;
${names.map(declare).join('\n')}`,
    body: `  ${statements[name]}`,
  });
});

function run(rec: Recorder, name: keyof typeof statements, tensors: readonly Tensor[], factor = 1): void {
  const y = tensors[0]!;
  for (let i = 0; i < tensors.length; i++) checkTensor(name, operands[i]!, tensors[i]!, y.shape);
  for (const { start, tensor: piece } of rowTiles(y)) {
    const { size } = piece;
    const { type, width } = flatType(size);
    const pieces = size === y.size ? tensors : tensors.map(tensor => tensor.rows(start, piece.shape[0]!));
    runFlat(rec, program(name, tensors.length - 1, type), pieces, size / width, [f32Bits(factor)], {
      flops: (name === 'axpy' ? 2 : 1) * size,
      // All but add also read their output.
      bytes: 4 * size * (tensors.length + (name === 'add' ? 0 : 1)),
    });
  }
}

/** Adds two tensors: out = a + b; all f32 of one shape. @throws RmError INVALID_ARGUMENT. */
export function add(rec: Recorder, a: Tensor, b: Tensor, out: Tensor): void {
  checkOperands('add', rec, { a, b, out });
  run(rec, 'add', [out, a, b]);
}

/** Adds in place: x += y; both f32 of one shape. @throws RmError INVALID_ARGUMENT. */
export function addInto(rec: Recorder, x: Tensor, y: Tensor): void {
  checkOperands('addInto', rec, { x, y });
  run(rec, 'addInto', [x, y]);
}

/** Adds a multiple in place, as BLAS axpy: y += factor * x; both f32 of one shape. @throws RmError INVALID_ARGUMENT. */
export function axpy(rec: Recorder, factor: number, x: Tensor, y: Tensor): void {
  checkOperands('axpy', rec, { x, y });
  run(rec, 'axpy', [y, x], factor);
}

/** Scales in place: x *= factor; x f32. @throws RmError INVALID_ARGUMENT. */
export function scale(rec: Recorder, x: Tensor, factor: number): void {
  checkOperands('scale', rec, { x });
  run(rec, 'scale', [x], factor);
}
