/**
 * Depthwise causal convolution of sequences that are packed one behind the other: each row sees itself and the rows before
 * it in its sequence. One invocation per element; a second program, one invocation per sequence and channel, keeps the last
 * rows for the tokens that come next. Source: causal_conv1d_fn and causal_conv1d_update in transformers/models/lfm2.
 */
import {
  byteSize,
  checkArguments,
  ensure,
  flag,
  optional,
  programFamily,
  type Recorder,
  settings,
  type Tensor,
} from '../../engine/index.js';
import {
  aTensor,
  checkMatrix,
  checkOperands,
  checkTensor,
  type FloatType,
  floats,
  maybeTensor,
} from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { scalarTensor } from '../shared/wgsl.js';
import { checkSequenceRows, type SequenceRows } from './sequenceRows.js';

/** Settings of `causalConv`. */
export interface CausalConvOptions extends SequenceRows {
  /** [C] f32 */
  readonly bias?: Tensor | undefined;
  /** Applies silu to the result. */
  readonly silu?: boolean;
  /** The last K - 1 rows before each place's next token, f32 [places, (K - 1) C]: read and replaced. */
  readonly states?: Tensor | undefined;
}

const theOptions = settings<CausalConvOptions>({
  sequences: aTensor,
  sequenceOf: aTensor,
  bias: maybeTensor,
  silu: optional(flag),
  states: maybeTensor,
});

const program = programFamily(
  (dtype: FloatType, kernel: number, biased: boolean, silu: boolean, continues: boolean) =>
    flatProgram({
      key: `causalConv ${dtype} ${kernel}${biased ? ' bias' : ''}${silu ? ' silu' : ''}${continues ? ' states' : ''}`,
      bindings: [
        ...(['read', 'read', 'read', 'read', 'write'] as const),
        ...(biased ? (['read'] as const) : []),
        ...(continues ? (['read'] as const) : []),
      ],
      fields: 'columns: u32',
      declarations: /* wgsl */ `
@group(0) @binding(1) var<storage, read> sequences: array<vec4u>;
@group(0) @binding(2) var<storage, read> sequence_of: array<u32>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
${scalarTensor('weight', 4, dtype)}
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
${biased ? '@group(0) @binding(6) var<storage, read> bias: array<f32>;' : ''}
${continues ? `@group(0) @binding(${biased ? 7 : 6}) var<storage, read> states: array<f32>;` : ''}`,
      body: /* wgsl */ `
  let row = i / p.columns;
  let channel = i % p.columns;
  let sequence = sequences[sequence_of[row]];
  let before = row - sequence.x;
  var sum = ${biased ? 'bias[channel]' : '0.0'};
  for (var j = 0u; j < ${kernel}u; j++) {
    let ago = ${kernel - 1}u - j;
    if (ago <= before) {
      sum += weight(channel * ${kernel}u + j) * x[i - ago * p.columns];
    }${
      continues
        ? ` else if (sequence.w > 0u) {
      let slot = sequence.z * ${kernel - 1}u + ${kernel - 1}u + before - ago;
      sum += weight(channel * ${kernel}u + j) * states[slot * p.columns + channel];
    }`
        : ''
    }
  }
  out[i] = ${silu ? 'sum / (1.0 + exp(-sum))' : 'sum'};`,
    }),
);

/** Row m of a place's state becomes the row K - 1 - m before the next token: of x, or of the state as it was. */
const keep = programFamily((kernel: number) =>
  flatProgram({
    key: `causalConv states ${kernel}`,
    bindings: ['read', 'read', 'write'],
    fields: 'columns: u32',
    declarations: /* wgsl */ `
@group(0) @binding(1) var<storage, read> sequences: array<vec4u>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> states: array<f32>;`,
    body: /* wgsl */ `
  let channel = i % p.columns;
  let sequence = sequences[i / p.columns];
  let slot = sequence.z * ${kernel - 1}u;
  // Upwards, so that what is read is not yet replaced.
  for (var m = 0u; m < ${kernel - 1}u; m++) {
    let at = sequence.y + m;
    var value = 0.0;
    if (at >= ${kernel - 1}u) {
      value = x[(sequence.x + at - ${kernel - 1}u) * p.columns + channel];
    } else if (sequence.w > 0u) {
      value = states[(slot + at) * p.columns + channel];
    }
    states[(slot + m) * p.columns + channel] = value;
  }`,
  }),
);

/**
 * Convolves each channel of packed sequences with its own weights: out[t, c] = bias[c] + sum over j of weight[c, 0, j] x[t -
 * K + 1 + j, c], where rows before a sequence are 0 or those of its state; x, out [T, C] f32, weight [C, 1, K] f32|f16|bf16
 * with K of 2 to 16.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function causalConv(
  rec: Recorder,
  x: Tensor,
  weight: Tensor,
  out: Tensor,
  options: CausalConvOptions,
): void {
  checkOperands('causalConv', rec, { x, weight, out });
  checkArguments('causalConv', { options }, { options: theOptions });
  const { sequences, sequenceOf, bias, silu = false, states } = options;
  const [rows, columns] = checkMatrix('causalConv', 'x', x);
  const kernel = weight.shape[2] ?? 0;
  checkTensor('causalConv', 'weight', weight, [columns, 1, kernel], floats);
  ensure(
    kernel >= 2 && kernel <= 16,
    `causalConv: weights of ${kernel} rows`,
    'A convolution sees 2 to 16 rows.',
  );
  checkTensor('causalConv', 'out', out, [rows, columns]);
  checkSequenceRows('causalConv', options, rows);
  if (bias) checkTensor('causalConv', 'bias', bias, [columns]);
  if (states) checkTensor('causalConv', 'states', states, [states.shape[0]!, (kernel - 1) * columns]);
  const optional = [...(bias ? [bias] : []), ...(states ? [states] : [])];
  const spec = program(weight.dtype as FloatType, kernel, bias !== undefined, silu, states !== undefined);
  runFlat(rec, spec, [sequences, sequenceOf, x, weight, out, ...optional], x.size, [columns], {
    flops: 2 * kernel * x.size,
    bytes: 8 * x.size + byteSize(weight.dtype) * weight.size,
  });
  if (!states) return;
  const kept = sequences.shape[0]! * columns;
  runFlat(rec, keep(kernel), [sequences, x, states], kept, [columns], {
    flops: 0,
    bytes: 8 * (kernel - 1) * kept,
  });
}
