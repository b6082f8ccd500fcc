import type { ProgramSpec } from '../../engine/index.js';
import type { Expression } from '../map/expression.js';
import { type MapForm, mapFields, valueWgsl } from '../map/mapProgram.js';
import { flatProgram } from '../shared/flat.js';
import type { MathFunction } from '../shared/mathWgsl.js';
import { ROW_LANES, rowProgram } from '../shared/rows.js';
import { scalarTensor } from '../shared/wgsl.js';
import { workgroupReduction } from '../shared/workgroup.js';
import type { Operation } from './operations.js';

/** Everything that a reduction's WGSL is generated from. */
export interface ReduceForm {
  /** The elements: `out` is their type. */
  readonly elements: MapForm;
  readonly operation: Operation;
  readonly axis: 'first' | 'last';
  /** 'partial' writes totals that are not finished, 'final' reads them. */
  readonly stage: 'whole' | 'partial' | 'final';
  readonly accumulate: boolean;
}

/**
 * An expression as a function of vectors or scalars, whatever the elements are; its constants, apart from those of other
 * expressions, are `p.PREFIXk0`, ...
 */
function functionOf(
  name: string,
  prefix: string,
  parameters: string,
  type: string,
  of: Expression,
  vector: boolean,
): string {
  const types: Readonly<Record<string, string>> = vector
    ? { T: 'vec4f', U: 'vec4u', B: 'vec4<bool>' }
    : { T: 'f32', U: 'u32', B: 'bool' };
  const own = (text: string) =>
    text.replaceAll('p.k', `p.${prefix}k`).replaceAll(/\b[TUB]\b/g, alias => types[alias]!);
  return `
fn ${name}(${parameters}) -> ${type} {
${own(of.statements)}
  return ${own(of.value)};
}`;
}

const constantsOf = (prefix: string, of?: Expression): string[] =>
  of ? of.constants.map(({ type }, k) => `${prefix}k${k}: ${type}`) : [];

/** Keys of floats, in the order of their values; NaN is beyond all, in the direction that is sought. */
const keysWgsl = (T: string, U: string, nan: string): string => `
fn key(x: ${T}) -> ${U} {
  let bits = bitcast<${U}>(x);
  let ordered = select(bits | ${U}(0x80000000u), ~bits, (bits >> ${U}(31u)) == ${U}(1u));
  return select(ordered, ${U}(${nan}), (bits & ${U}(0x7fffffffu)) > ${U}(0x7f800000u));
}
fn valueOf(key: ${U}) -> ${T} {
  let bits = select(~key, key ^ ${U}(0x80000000u), (key >> ${U}(31u)) == ${U}(1u));
  return bitcast<${T}>(select(bits, ${U}(0x7fc00000u), key == ${U}(${nan})));
}`;

/**
 * WGSL of `combine(a, b)`, of `prepare(x)`, which makes a total of an element, and of `finish(total)`. Totals have type A:
 * keys where the largest or smallest is sought. `vector`: for four columns at a time.
 */
function operationWgsl({ operation, stage }: ReduceForm, vector: boolean): string {
  const { keys, type, combine, finish } = operation;
  const [F, U] = vector ? ['vec4f', 'vec4u'] : ['f32', 'u32'];
  const E = type === 'f32' ? F : U;
  const A = totalType(operation) === 'f32' ? F : U;
  const coded = keys !== undefined && type === 'f32';
  const nan = keys === 'max' ? '0xffffffffu' : '0u';
  const start = keys === 'min' ? `${A}(0xffffffffu)` : keys ? `${A}(0u)` : `${A}(p.start_total)`;
  const finished = coded ? 'valueOf(total)' : finish ? 'finished(total, p.reduced)' : 'total';
  return `
alias E = ${E};
alias A = ${A};
${coded ? keysWgsl(F, U, nan) : ''}
${keys ? `fn combine(a: A, b: A) -> A { return ${keys}(a, b); }` : functionOf('combine', 'c_', 'x0: A, x1: A', 'A', combine!, vector)}
${finish && stage !== 'partial' ? finishWgsl(finish, vector) : ''}
fn nothing() -> A { return ${start}; }
fn prepare(x: ${stage === 'final' ? 'A' : 'E'}) -> A { return ${coded && stage !== 'final' ? 'key(x)' : 'x'}; }
fn result(total: A) -> ${stage === 'partial' ? 'A' : 'E'} { return ${stage === 'partial' ? 'total' : finished}; }`;
}

const finishWgsl = (finish: Expression, vector: boolean): string =>
  functionOf('after', 'f_', 'x0: E, x1: E', 'E', finish, vector) +
  '\nfn finished(total: E, count: f32) -> E { return after(total, E(count)); }';

/** Functions that a reduction of one's own calls. */
export const callsOf = ({ combine, finish }: Operation): readonly MathFunction[] => [
  ...(combine?.calls ?? []),
  ...(finish?.calls ?? []),
];

/** The type of totals. */
export const totalType = ({ keys, type }: Operation): 'f32' | 'u32' => (keys ? 'u32' : type);

/** Fields of the uniform block after rows and columns, in the order in which `reduce.ts` fills it. */
const fieldsOf = ({ elements, operation }: ReduceForm): string =>
  [
    'first: u32',
    'chunks: u32',
    'chunk: u32',
    'reduced: f32',
    `start_total: ${totalType(operation)}`,
    mapFields(elements),
    ...constantsOf('c_', operation.combine),
    ...constantsOf('f_', operation.finish),
  ]
    .filter(field => field !== '')
    .join(', ');

const bindingsOf = ({ elements }: ReduceForm) => [
  'write' as const,
  ...elements.operands.map(() => 'read' as const),
];

/** A workgroup reduces a row, or one of its `chunks`. */
function lastAxis(key: string, form: ReduceForm): ProgramSpec {
  const { elements, operation, stage, accumulate } = form;
  const total = totalType(operation);
  const out = stage === 'partial' ? total : operation.type;
  const parts = elements.width === 4 ? [0, 1, 2, 3].map(j => `four[${j}]`) : ['four'];
  return rowProgram({
    key,
    bindings: bindingsOf(form),
    fields: fieldsOf(form),
    declarations: `
${scalarTensor('y', 1, out, 'read_write')}
${valueWgsl(elements, callsOf(operation))}
${operationWgsl(form, false)}
${workgroupReduction('all', ROW_LANES, total, 'combine(a, b)')}`,
    body: `
  let base = row / p.chunks * p.columns;
  let begin = row % p.chunks * p.chunk;
  var mine = nothing();
  for (var j = begin + lane; j < min(p.columns, begin + p.chunk); j += ${ROW_LANES}u) {
    let four = value(base + j);
    ${parts.map(part => `mine = combine(mine, prepare(${part}));`).join('\n    ')}
  }
  let total = all(mine, lane);
  if (lane == 0u) { y_[p.first + row] = ${stored(form, accumulate)}; }`,
  });
}

/** An invocation reduces a column, or four, of one of `chunks` ranges of rows. */
function firstAxis(key: string, form: ReduceForm): ProgramSpec {
  const { elements, operation, stage, accumulate } = form;
  const vector = elements.width === 4;
  const out = stage === 'partial' ? totalType(operation) : operation.type;
  const tensor = vector ? `array<${out === 'f32' ? 'vec4f' : 'vec4u'}>` : `array<${out}>`;
  return flatProgram({
    key,
    bindings: bindingsOf(form),
    fields: `rows: u32, columns: u32, ${fieldsOf(form)}`,
    declarations: `
@group(0) @binding(1) var<storage, read_write> y_: ${tensor};
${valueWgsl(elements, callsOf(operation))}
${operationWgsl(form, vector)}`,
    body: `
  let column = i % p.columns;
  let begin = i / p.columns * p.chunk;
  var total = nothing();
  for (var row = begin; row < min(begin + p.chunk, p.rows); row++) {
    total = combine(total, prepare(value(row * p.columns + column)));
  }
  y_[i] = ${stored(form, accumulate).replaceAll('p.first + row', 'i')};`,
  });
}

const stored = ({ stage, operation }: ReduceForm, accumulate: boolean): string => {
  if (!accumulate || stage === 'partial') return 'result(total)';
  const before = operation.keys && operation.type === 'f32' ? 'key(y_[p.first + row])' : 'y_[p.first + row]';
  return `result(combine(${before}, total))`;
};

/** Builds the program of a reduction. */
export const reduceProgram = (key: string, form: ReduceForm): ProgramSpec =>
  form.axis === 'last' ? lastAxis(key, form) : firstAxis(key, form);
