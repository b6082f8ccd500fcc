import type { Access } from '../../engine/index.js';
import { type Activation, activationWgsl } from '../shared/activation.js';
import type { FloatType } from '../shared/checks.js';
import { flatGroup, scalarTensor, vec4Tensor } from '../shared/wgsl.js';

/** The memory layout of an operand, on which the WGSL depends. */
export interface OperandLayout {
  dtype: FloatType;
  /** k runs along the stored rows: A is [M,K], B is [N,K]. Otherwise A is [K,M], B is [K,N]. */
  kContiguous: boolean;
  /** The length of a stored row is a multiple of 4, so that rows can be read as vec4. */
  aligned: boolean;
  /** A block of a larger matrix: it begins at element p.NAME_start, and its rows are p.NAME_row apart. */
  block?: boolean;
}

/** WGSL of the distance of an operand's stored rows, which are `length` long. */
export const rowDistance = (name: string, { block }: OperandLayout, length: string): string =>
  block ? `p.${name}_row` : length;

/** Everything that the WGSL of a matmul variant is generated from. */
export interface MatmulLayout {
  a: OperandLayout;
  b: OperandLayout;
  /**
   * A second right operand `up` with B's extents: out = activation(A B + bias) * (A up + upBias). `limited`: of clamped sums,
   * with 1 added to the second factor.
   */
  gated?: { up: OperandLayout; activation: Activation; upBias: boolean; limited?: boolean };
  /** K is not a multiple of 4. */
  oddK: boolean;
  /** N is a multiple of 4, so that `out` is written as vec4. */
  vec4Out: boolean;
  bias: boolean;
  /** Applied to the sum and its bias, if the product is not gated. */
  activation?: Activation;
  residual: boolean;
  accumulate: boolean;
  /** `out` is square and only its lower triangle is computed. */
  lower?: boolean;
  /** There are exponents of the lines of all operands (see lineExponents.ts), one after the other. */
  exponents?: boolean;
  /** `out` is [splits,M,N]: a workgroup sums one range of k and adds neither bias, residual nor the old `out`. */
  partial: boolean;
  /** Operands and `out` are [batches,...]: a workgroup computes a tile of one product. */
  batched?: boolean;
  /**
   * Rows of A and `out` are in groups, each with its own B, `up` and biases: a tile holds rows of one group. A binding says
   * where each group begins, and where the last one ends.
   */
  grouped?: boolean;
  /** Operands and `out` are blocks of larger matrices; the product times p.sign is added to nothing, another block or `out`. */
  blocks?: 'nothing' | 'block' | 'out';
}

/** The right operands by name; each has its own sums. */
const factors = ({ b, gated }: MatmulLayout): readonly (readonly [name: string, layout: OperandLayout])[] =>
  gated
    ? ([
        ['b', b],
        ['up', gated.up],
      ] as const)
    : [['b', b]];

/** Generates WGSL for one right operand. */
export type FactorWgsl = (name: string, operand: OperandLayout) => string;

/** Joins the WGSL for each right operand: `b` and, in a gated product, `up`. */
export const eachFactor = (layout: MatmulLayout, wgsl: FactorWgsl, separator = '\n'): string =>
  factors(layout)
    .map(([name, operand]) => wgsl(name, operand))
    .join(separator);

/** The part of a program's key that names everything the WGSL of the sums depends on. */
export function layoutKey(layout: MatmulLayout): string {
  const { a, b, gated, oddK, lower, partial, batched, grouped, blocks } = layout;
  const right = gated ? `${operandKey(b)}, ${operandKey(gated.up)}` : operandKey(b);
  const form = `${lower ? ', lower' : ''}${partial ? ', partial' : ''}${batched ? ', batched' : ''}${grouped ? ', grouped' : ''}${blocks ? `, blocks added to ${blocks}` : ''}`;
  return `${operandKey(a)}, ${right}${oddK ? ', odd-k' : ''}${form}, ${epilogueKey(layout)}`;
}

const operandKey = ({ dtype, kContiguous, aligned }: OperandLayout): string =>
  `${dtype}${kContiguous ? '' : ' k-strided'}${aligned ? '' : ' odd'}`;

/** The part of a program's key that names everything the WGSL that completes the sums depends on. */
export const epilogueKey = ({
  gated,
  activation,
  vec4Out,
  bias,
  residual,
  accumulate,
}: MatmulLayout): string =>
  `out${vec4Out ? '' : ' odd-n'}${gated ? ` ${gated.activation}${gated.limited ? ' limited' : ''}${gated.upBias ? ' up-bias' : ''}` : ''}${bias ? ' + bias' : ''}${activation ? `, ${activation}` : ''}${residual ? ' + residual' : ''}${accumulate ? ' + out' : ''}`;

/** A storage binding of a product's program. */
interface Binding {
  name: string;
  access: Access;
  wgsl(binding: number): string;
}

/** The WGSL type of `out`, bias and residual: vec4f if every row of out consists of whole vectors. */
export const outType = ({ vec4Out }: MatmulLayout): 'vec4f' | 'f32' => (vec4Out ? 'vec4f' : 'f32');

/** The bindings of the tensors that are added when a sum is complete. */
function epilogueBindings({ bias, gated, residual, partial, blocks }: MatmulLayout): Binding[] {
  if (partial) return [];
  return [
    ...(blocks === 'block' ? [inputBinding('from_block')] : []),
    ...(bias ? [inputBinding('bias')] : []),
    ...(gated?.upBias ? [inputBinding('up_bias')] : []),
    ...(residual ? [inputBinding('residual')] : []),
  ];
}

const inputBinding = (name: string): Binding => ({
  name,
  access: 'read',
  wgsl: binding => `@group(0) @binding(${binding}) var<storage, read> ${name}: array<T>;`,
});

const exponentsBinding: Binding = {
  name: 'exponents',
  access: 'read',
  wgsl: binding => `@group(0) @binding(${binding}) var<storage, read> exponents: array<u32>;`,
};

const outBinding: Binding = {
  name: 'out',
  access: 'write',
  wgsl: binding => `@group(0) @binding(${binding}) var<storage, read_write> out: array<T>;`,
};

const beginsBinding: Binding = {
  name: 'begins',
  access: 'read',
  wgsl: binding => `@group(0) @binding(${binding}) var<storage, read> begins: array<u32>;`,
};

/** The bindings of a product's program, in order from 1. */
export function productBindings(layout: MatmulLayout): Binding[] {
  const ofB = layout.batched || layout.grouped ? 'b_start' : undefined;
  return [
    operandBinding('a', layout.a, layout.batched ? 'a_start' : undefined),
    operandBinding('b', layout.b, ofB),
    ...(layout.gated ? [operandBinding('up', layout.gated.up, ofB)] : []),
    outBinding,
    ...epilogueBindings(layout),
    ...(layout.exponents ? [exponentsBinding] : []),
    ...(layout.grouped ? [beginsBinding] : []),
  ];
}

/** The bindings of the program that adds the partial products of `layout`, in order from 1. */
export const partialSumBindings = (layout: MatmulLayout): Binding[] => [
  inputBinding('partials'),
  outBinding,
  ...epilogueBindings(layout),
];

/** @param given a variable with the element at which the operand of a product begins. */
const operandBinding = (name: string, { dtype, aligned, block }: OperandLayout, given?: string): Binding => ({
  name,
  access: 'read',
  wgsl: binding => {
    const start = given ?? (block ? `p.${name}_start` : undefined);
    if (aligned)
      return `${vec4Tensor(name, binding, dtype)}\nfn ${name}4(i: u32) -> vec4f { return ${name}((${start ? `${start} + ` : ''}i) >> 2u); }`;
    const element = start
      ? `${scalarTensor(`${name}_all`, binding, dtype)}\nfn ${name}(i: u32) -> f32 { return ${name}_all(${start} + i); }`
      : scalarTensor(name, binding, dtype);
    return `${element}
fn ${name}4(i: u32) -> vec4f { return vec4f(${name}(i), ${name}(i + 1u), ${name}(i + 2u), ${name}(i + 3u)); }`;
  },
});

/** WGSL that declares bindings, from 1 on. */
export const declareBindings = (bindings: readonly Binding[]): string =>
  bindings.map((binding, i) => binding.wgsl(i + 1)).join('\n');

/** WGSL function `finish(at, column, sums...) -> T` that computes out[at] from complete sums; indices count T. */
export function finish(layout: MatmulLayout): string {
  const parameters = eachFactor(layout, name => `sum_${name}: T`, ', ');
  const { bias, gated, residual, accumulate, partial, grouped } = layout;
  const activation = gated?.activation ?? (partial ? undefined : layout.activation);
  const ofColumn = grouped ? '[bias_start + column]' : '[column]';
  const biased = bias && !partial ? `(sum_b + bias${ofColumn})` : 'sum_b';
  const input = gated?.limited ? `min(${biased}, T(p.limit))` : biased;
  const active = activation ? `activation(${input})` : input;
  const up = `(sum_up${gated?.upBias ? ` + up_bias${ofColumn}` : ''})`;
  const factor = gated?.limited ? `(clamp(${up}, T(-p.limit), T(p.limit)) + 1.0)` : up;
  const value = gated ? `${active} * ${factor}` : active;
  const rest = partial ? '' : `${residual ? ' + residual[at]' : ''}${accumulate ? ' + out[at]' : ''}`;
  return `
${activation ? activationWgsl(activation) : ''}
fn finish(at: u32, column: u32, ${parameters}) -> T { return ${value}${rest}; }`;
}

/** WGSL statement that writes element `at` of out, row and column of the product being known. */
function storeElement(layout: MatmulLayout, column: string, sums: string): string {
  const { blocks, vec4Out } = layout;
  if (!blocks) return `out[at] = finish(at, ${column}, ${sums});`;
  const from = `(p.from_start + row * p.from_row + column${vec4Out ? ') >> 2u' : ' + j)'}`;
  const begin = { nothing: '', block: `from_block[${from}] + `, out: 'out[at] + ' }[blocks];
  return `out[at] = ${begin}p.sign * ${sums};`;
}

/**
 * WGSL that all variants share: parameters, bindings and functions.
 * - `a4(i)`, `b4(i)`, `up4(i)` return elements i .. i+3 of the stored matrix, which must exist; i must be a multiple of 4
 *   if the operand is aligned. Unaligned operands also have `a(i)`, `b(i)`, `up(i)` for single elements.
 * - `store(row, column, sums...)` completes columns column .. column+3 of `out` from a vec4f of sums for each right
 *   operand, and skips columns that do not exist.
 */
export function head(layout: MatmulLayout): string {
  const start = layout.partial ? 'p.m * split + ' : layout.batched ? 'p.m * batch + ' : '';
  const sums = (suffix: string) => eachFactor(layout, name => `sum_${name}${suffix}`, ', ');
  const at = layout.blocks ? 'p.out_start + row * p.out_row + column' : `(${start}row) * p.n + column`;
  const store = layout.vec4Out
    ? `let at = (${at}) >> 2u;
  if (row < ${rowEnd(layout)} && column < p.n) { ${storeElement(layout, 'column >> 2u', sums(''))} }`
    : `if (row >= ${rowEnd(layout)}) { return; }
  for (var j = 0u; j < min(4u, p.n - min(column, p.n)); j++) {
    let at = ${at} + j;
    ${storeElement(layout, 'column + j', sums('[j]'))}
  }`;
  return `
alias T = ${outType(layout)};
struct Params {
  m: u32, n: u32, k: u32, row_tiles: u32, end: u32, first: u32, tiles: u32, range: u32, a_stride: u32, b_stride: u32,
  groups: u32, first_group: u32, end_group: u32, limit: f32,
  ${layout.blocks ? 'sign: f32, a_start: u32, a_row: u32, b_start: u32, b_row: u32, out_start: u32, out_row: u32, from_start: u32, from_row: u32' : ''}
}
@group(0) @binding(0) var<uniform> p: Params;
${layout.batched ? 'var<private> batch: u32;\nvar<private> a_start: u32;\nvar<private> b_start: u32;' : ''}
${layout.grouped ? 'var<private> b_start: u32;\nvar<private> bias_start: u32;\nvar<private> row_end: u32;' : ''}
${declareBindings(productBindings(layout))}
${layout.partial ? 'var<private> split: u32;' : ''}
${layout.blocks ? '' : finish(layout)}
fn store(row: u32, column: u32, ${eachFactor(layout, name => `sum_${name}: vec4f`, ', ')}) {
  ${store}
}`;
}

/** The row after the last one of a tile's rows that exists. */
export const rowEnd = ({ grouped }: MatmulLayout): string => (grouped ? 'row_end' : 'p.m');

/**
 * WGSL that finds row0 of a tile of a grouped product. A group's first tile is chosen so that all groups have enough tiles,
 * whatever their sizes: floor(begin / rows), and one more for each group before. Where there is one row to a tile, none is
 * spare. Tiles that are spare return.
 */
const groupedOrigin = (rows: number, vec4Out: boolean): string => {
  const firstTile = (group: string) =>
    rows === 1 ? `begins[${group}]` : `(begins[${group}] / ${rows}u + ${group})`;
  return `
  let row_tile = tile % p.row_tiles;
  var group = 0u;
  for (var above = p.groups; group + 1u < above;) {
    let middle = (group + above) / 2u;
    if (${firstTile('middle')} <= row_tile) { group = middle; } else { above = middle; }
  }
  if (group < p.first_group || group >= p.end_group) { return; }
  let row0 = begins[group] + (row_tile - ${firstTile('group')}) * ${rows}u;
  row_end = begins[group + 1u];
  if (row0 >= begins[group + 1u]) { return; }
  b_start = (group - p.first_group) * p.b_stride;
  bias_start = group * p.n${vec4Out ? ' / 4u' : ''};`;
};

/**
 * WGSL at the start of `main`: row0 and column0 of the workgroup's tile, k_begin (a multiple of p.range) and k_end of its
 * sums. Workgroups without a tile, or with one above the diagonal of a `lower` product, return.
 */
export const tileOrigin = (
  { lower, partial, batched, grouped, vec4Out }: MatmulLayout,
  rows: number,
  columns: number,
): string => `
  let index = p.first + ${flatGroup};
  if (index >= p.end) { return; }
  ${
    partial
      ? `let tile = index % p.tiles;
  let part = index / p.tiles;
  split = part;
  let k_begin = part * p.range;
  let k_end = min(p.k, k_begin + p.range);`
      : `let tile = ${batched ? 'index % p.tiles' : 'index'};
  ${
    batched
      ? `batch = index / p.tiles;
  a_start = batch * p.a_stride;
  b_start = batch * p.b_stride;`
      : ''
  }
  let k_begin = 0u;
  let k_end = p.k;`
  }
  ${grouped ? groupedOrigin(rows, vec4Out) : `let row0 = (tile % p.row_tiles) * ${rows}u;`}
  let column0 = (tile / p.row_tiles) * ${columns}u;
  ${lower ? `if (column0 >= row0 + ${rows}u) { return; }` : ''}`;
