/**
 * The gated delta rule over sequences that are packed one behind the other. One invocation holds a column of a value head's
 * memory in registers and goes over the tokens, so sequences, heads and columns run side by side and nothing is shared.
 * Source: Yang, Kautz, Hatamizadeh, Gated Delta Networks, arXiv:2412.06464; transformers/models/qwen3_5.
 */
import {
  checkArguments,
  ensure,
  programFamily,
  type Recorder,
  settings,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { aTensor, checkMatrix, checkOperands, checkTensor, maybeTensor } from '../shared/checks.js';
import { flatProgram, flatType, runFlat } from '../shared/flat.js';
import { lines } from '../shared/wgsl.js';
import { checkSequenceRows, type SequenceRows } from './sequenceRows.js';

/** Inputs of `gatedDelta`, f32. */
export interface GatedDeltaInputs {
  /** [T, keyHeads keyDim], of the length that they have. */
  readonly q: Tensor;
  readonly k: Tensor;
  /** [T, valueHeads valueDim] */
  readonly v: Tensor;
  /** Factor on the memory, and how much of the token goes into it, [T, valueHeads]. */
  readonly decay: Tensor;
  readonly beta: Tensor;
}

/** Settings of `gatedDelta`. */
export interface GatedDeltaOptions extends SequenceRows {
  /** Value head h uses key head floor(h keyHeads / valueHeads). */
  readonly keyHeads: number;
  readonly valueHeads: number;
  /** The memory of the sequence in each place, f32 [places, valueHeads keyDim valueDim]: read and replaced. */
  readonly states?: Tensor | undefined;
}

const theInputs = settings<GatedDeltaInputs>({
  q: aTensor,
  k: aTensor,
  v: aTensor,
  decay: aTensor,
  beta: aTensor,
});
const theOptions = settings<GatedDeltaOptions>({
  sequences: aTensor,
  sequenceOf: aTensor,
  keyHeads: whole(1),
  valueHeads: whole(1),
  states: maybeTensor,
});

/** A wider column does not fit into registers. */
const WIDEST_KEY = 256;

const program = programFamily((keyDim: number, continues: boolean) => {
  const { type, width } = flatType(keyDim);
  const parts = keyDim / width;
  const product = (a: string, b: string) => (width === 4 ? `dot(${a}, ${b})` : `${a} * ${b}`);
  /** Number n of a column in a place's state. */
  const stored = (n: number) => `states[at + ${n}u * p.value_dim]`;
  const numbers = (j: number) => Array.from({ length: width }, (_, n) => stored(width * j + n)).join(', ');
  return flatProgram({
    key: `gatedDelta ${keyDim}${continues ? ' states' : ''}`,
    bindings: [
      ...(['read', 'read', 'read', 'read', 'read', 'read', 'write'] as const),
      ...(continues ? (['write'] as const) : []),
    ],
    fields: 'key_heads: u32, value_heads: u32, value_dim: u32',
    declarations: /* wgsl */ `
@group(0) @binding(1) var<storage, read> sequences: array<vec4u>;
@group(0) @binding(2) var<storage, read> q: array<${type}>;
@group(0) @binding(3) var<storage, read> k: array<${type}>;
@group(0) @binding(4) var<storage, read> v: array<f32>;
@group(0) @binding(5) var<storage, read> decay: array<f32>;
@group(0) @binding(6) var<storage, read> beta: array<f32>;
@group(0) @binding(7) var<storage, read_write> out: array<f32>;
${continues ? '@group(0) @binding(8) var<storage, read_write> states: array<f32>;' : ''}`,
    body: /* wgsl */ `
  let column = i % p.value_dim;
  let head = (i / p.value_dim) % p.value_heads;
  let sequence = sequences[i / p.value_dim / p.value_heads];
  let key_head = head * p.key_heads / p.value_heads;
${lines(parts, j => `  var m${j} = ${type}();`)}
${
  continues
    ? /* wgsl */ `  let at = (sequence.z * p.value_heads + head) * ${keyDim}u * p.value_dim + column;
  if (sequence.w > 0u) {
${lines(parts, j => `    m${j} = ${type}(${numbers(j)});`)}
  }`
    : ''
}
  for (var t = 0u; t < sequence.y; t++) {
    let row = sequence.x + t;
    let keys = (row * p.key_heads + key_head) * ${parts}u;
    let step = row * p.value_heads + head;
    let value = step * p.value_dim + column;
    let kept = decay[step];
    var known = 0.0;
${lines(parts, j => `    m${j} *= kept;\n    known += ${product(`m${j}`, `k[keys + ${j}u]`)};`)}
    let more = beta[step] * (v[value] - known);
    var read = 0.0;
${lines(parts, j => `    m${j} += more * k[keys + ${j}u];\n    read += ${product(`m${j}`, `q[keys + ${j}u]`)};`)}
    out[value] = read;
  }
${
  continues
    ? lines(keyDim, n => `  ${stored(n)} = m${Math.floor(n / width)}${width === 4 ? `[${n % 4}]` : ''};`)
    : ''
}`,
  });
});

/**
 * Runs a memory S [keyDim, valueDim] for each value head over each sequence: S = decay S + k (beta (v - (decay S)^T k))^T,
 * then out = S^T q; out [T, valueHeads valueDim] f32. S begins at 0, or as the sequence's state.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit, or key heads have more than 256 columns.
 */
export function gatedDelta(
  rec: Recorder,
  inputs: GatedDeltaInputs,
  out: Tensor,
  options: GatedDeltaOptions,
): void {
  checkArguments('gatedDelta', { inputs, options }, { inputs: theInputs, options: theOptions });
  const { q, k, v, decay, beta } = inputs;
  checkOperands('gatedDelta', rec, { q, k, v, decay, beta, out });
  const { sequences, keyHeads, valueHeads, states } = options;
  const [rows, keys] = checkMatrix('gatedDelta', 'q', q);
  const [, values] = checkMatrix('gatedDelta', 'v', v);
  const [keyDim, valueDim] = [keys / keyHeads, values / valueHeads];
  ensure(
    Number.isInteger(keyDim) && Number.isInteger(valueDim) && valueHeads % keyHeads === 0,
    `gatedDelta: ${keyHeads} key heads in ${keys} columns, ${valueHeads} value heads in ${values}`,
    'Pass whole heads, and as many value heads for each key head.',
  );
  ensure(
    keyDim >= 1 && keyDim <= WIDEST_KEY,
    `gatedDelta: key heads of ${keyDim} columns`,
    `They can have 1 to ${WIDEST_KEY}.`,
  );
  checkTensor('gatedDelta', 'k', k, [rows, keys]);
  checkTensor('gatedDelta', 'v', v, [rows, values]);
  checkTensor('gatedDelta', 'decay', decay, [rows, valueHeads]);
  checkTensor('gatedDelta', 'beta', beta, [rows, valueHeads]);
  checkTensor('gatedDelta', 'out', out, [rows, values]);
  checkSequenceRows('gatedDelta', options, rows);
  if (states) checkTensor('gatedDelta', 'states', states, [states.shape[0]!, keyDim * values]);
  const tensors = [sequences, q, k, v, decay, beta, out, ...(states ? [states] : [])];
  const columns = sequences.shape[0]! * values;
  runFlat(rec, program(keyDim, states !== undefined), tensors, columns, [keyHeads, valueHeads, valueDim], {
    flops: 7 * rows * keyDim * values,
    bytes: 4 * rows * (2 * keys + 2 * values + 2 * valueHeads),
  });
}
