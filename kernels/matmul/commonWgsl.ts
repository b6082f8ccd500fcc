import type { Access } from '../../engine/index.js';
import { type Activation, activationWgsl } from '../elementwise/activation.js';
import type { FloatType } from '../shared/checks.js';
import { flatGroup, scalarTensor, vec4Tensor } from '../shared/wgsl.js';

/** How one operand lies in memory, as far as the WGSL depends on it. */
export interface OperandLayout {
  dtype: FloatType;
  /** k runs along the stored rows: A as [M,K], B as [N,K]. Otherwise A is [K,M], B [K,N]. */
  kContiguous: boolean;
  /** The stored row length is a multiple of 4, so rows can be read as vec4. */
  aligned: boolean;
}

/** Everything the WGSL of a matmul variant is generated from. */
export interface MatmulLayout {
  a: OperandLayout;
  b: OperandLayout;
  /** A second right operand `up` of B's extents: out = activation(A B + bias) * (A up + upBias). */
  gated?: { up: OperandLayout; activation: Activation; upBias: boolean };
  /** K is no multiple of 4. */
  oddK: boolean;
  /** N is a multiple of 4, so that `out` is written as vec4. */
  vec4Out: boolean;
  bias: boolean;
  /** Of the sum and its bias, where there is no gate. */
  activation?: Activation;
  residual: boolean;
  accumulate: boolean;
  /** `out` is square and only its lower triangle is asked for. */
  lower?: boolean;
  /** `out` is [splits,M,N]: a workgroup sums one range of k, without bias, residual and what was there. */
  partial: boolean;
}

/** The right operands by name, each with sums of its own. */
const factors = ({ b, gated }: MatmulLayout): readonly (readonly [name: string, layout: OperandLayout])[] =>
  gated
    ? ([
        ['b', b],
        ['up', gated.up],
      ] as const)
    : [['b', b]];

export type FactorWgsl = (name: string, operand: OperandLayout) => string;

/** WGSL once for each right operand: `b`, and `up` of a gated product. */
export const eachFactor = (layout: MatmulLayout, wgsl: FactorWgsl, separator = '\n'): string =>
  factors(layout)
    .map(([name, operand]) => wgsl(name, operand))
    .join(separator);

/** Names what the WGSL of the sums depends on. */
export function layoutKey(layout: MatmulLayout): string {
  const { a, b, gated, oddK, lower, partial } = layout;
  const right = gated ? `${operandKey(b)}, ${operandKey(gated.up)}` : operandKey(b);
  return `${operandKey(a)}, ${right}${oddK ? ', odd-k' : ''}${lower ? ', lower' : ''}${partial ? ', partial' : ''}, ${epilogueKey(layout)}`;
}

const operandKey = ({ dtype, kContiguous, aligned }: OperandLayout): string =>
  `${dtype}${kContiguous ? '' : ' k-strided'}${aligned ? '' : ' odd'}`;

/** Names what the WGSL that completes the sums depends on. */
export const epilogueKey = ({
  gated,
  activation,
  vec4Out,
  bias,
  residual,
  accumulate,
}: MatmulLayout): string =>
  `out${vec4Out ? '' : ' odd-n'}${gated ? ` ${gated.activation}${gated.upBias ? ' up-bias' : ''}` : ''}${bias ? ' + bias' : ''}${activation ? `, ${activation}` : ''}${residual ? ' + residual' : ''}${accumulate ? ' + out' : ''}`;

export interface Binding {
  /** Also of the tensor that `recordProduct` binds here. */
  name: string;
  access: Access;
  wgsl(binding: number): string;
}

/** The type of `out`, bias and residual: whole vectors where every row of out has them. */
export const outType = ({ vec4Out }: MatmulLayout): 'vec4f' | 'f32' => (vec4Out ? 'vec4f' : 'f32');

/** What is added and applied when a sum is complete. */
function epilogueBindings({ bias, gated, residual, partial }: MatmulLayout): Binding[] {
  if (partial) return [];
  return [
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

const outBinding: Binding = {
  name: 'out',
  access: 'write',
  wgsl: binding => `@group(0) @binding(${binding}) var<storage, read_write> out: array<T>;`,
};

/** The bindings of a product's program, in order from 1. */
export const productBindings = (layout: MatmulLayout): Binding[] => [
  operandBinding('a', layout.a),
  operandBinding('b', layout.b),
  ...(layout.gated ? [operandBinding('up', layout.gated.up)] : []),
  outBinding,
  ...epilogueBindings(layout),
];

/** The bindings of the program that adds the partial products of `layout`, in order from 1. */
export const partialSumBindings = (layout: MatmulLayout): Binding[] => [
  inputBinding('partials'),
  outBinding,
  ...epilogueBindings(layout),
];

const operandBinding = (name: string, { dtype, aligned }: OperandLayout): Binding => ({
  name,
  access: 'read',
  wgsl: binding =>
    aligned
      ? `${vec4Tensor(name, binding, dtype)}\nfn ${name}4(i: u32) -> vec4f { return ${name}(i >> 2u); }`
      : `${scalarTensor(name, binding, dtype)}
fn ${name}4(i: u32) -> vec4f { return vec4f(${name}(i), ${name}(i + 1u), ${name}(i + 2u), ${name}(i + 3u)); }`,
});

export const declareBindings = (bindings: readonly Binding[]): string =>
  bindings.map((binding, i) => binding.wgsl(i + 1)).join('\n');

/** WGSL `finish(at, column, sums...)`: what is written to out[at], in units of T. */
export function finish(layout: MatmulLayout): string {
  const parameters = eachFactor(layout, name => `sum_${name}: T`, ', ');
  const { bias, gated, residual, accumulate, partial } = layout;
  const activation = gated?.activation ?? (partial ? undefined : layout.activation);
  const biased = bias && !partial ? '(sum_b + bias[column])' : 'sum_b';
  const active = activation ? `activation(${biased})` : biased;
  const value = gated ? `${active} * (sum_up${gated.upBias ? ' + up_bias[column]' : ''})` : active;
  const rest = partial ? '' : `${residual ? ' + residual[at]' : ''}${accumulate ? ' + out[at]' : ''}`;
  return `
${activation ? activationWgsl(activation) : ''}
fn finish(at: u32, column: u32, ${parameters}) -> T { return ${value}${rest}; }`;
}

/**
 * Parameters, bindings and functions that all variants share:
 * - `a4(i)`, `b4(i)`, `up4(i)`: the elements i .. i+3 of the stored matrix; i is a multiple of 4 where the operand is
 *   aligned. All four must exist. Unaligned operands have `a(i)`, `b(i)`, `up(i)` for single elements as well.
 * - `store(row, column, sums...)`: completes columns column .. column+3 of `out`, as far as they exist, from a vec4f of
 *   sums for each right operand.
 */
export function head(layout: MatmulLayout): string {
  const start = layout.partial ? 'p.m * split + ' : '';
  const sums = (suffix: string) => eachFactor(layout, name => `sum_${name}${suffix}`, ', ');
  const store = layout.vec4Out
    ? `let at = ((${start}row) * p.n + column) >> 2u;
  if (row < p.m && column < p.n) { out[at] = finish(at, column >> 2u, ${sums('')}); }`
    : `if (row >= p.m) { return; }
  for (var j = 0u; j < min(4u, p.n - min(column, p.n)); j++) {
    let at = (${start}row) * p.n + column + j;
    out[at] = finish(at, column + j, ${sums('[j]')});
  }`;
  return `
alias T = ${outType(layout)};
struct Params {
  m: u32, n: u32, k: u32, row_tiles: u32, end: u32, first: u32${layout.partial ? ', tiles: u32, range: u32' : ''}
}
@group(0) @binding(0) var<uniform> p: Params;
${declareBindings(productBindings(layout))}
${layout.partial ? 'var<private> split: u32;' : ''}
${finish(layout)}
fn store(row: u32, column: u32, ${eachFactor(layout, name => `sum_${name}: vec4f`, ', ')}) {
  ${store}
}`;
}

/**
 * Start of `main`: row0 and column0 of the workgroup's tile, k_begin and k_end of its sums (begin is a multiple of
 * p.range); ends workgroups that have no tile, or one that nobody asked for.
 */
export const tileOrigin = ({ lower, partial }: MatmulLayout, rows: number, columns: number): string => `
  let index = p.first + ${flatGroup};
  if (index >= p.end) { return; }
  ${
    partial
      ? `let tile = index % p.tiles;
  let part = index / p.tiles;
  split = part;
  let k_begin = part * p.range;
  let k_end = min(p.k, k_begin + p.range);`
      : `let tile = index;
  let k_begin = 0u;
  let k_end = p.k;`
  }
  let row0 = (tile % p.row_tiles) * ${rows}u;
  let column0 = (tile / p.row_tiles) * ${columns}u;
  ${lower ? `if (column0 >= row0 + ${rows}u) { return; }` : ''}`;
