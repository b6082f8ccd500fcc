/**
 * Draws one token for every row of logits: token i with probability softmax(logits / temperature), among the k likeliest
 * (topK) and of those among the likeliest that together reach topP. Equally likely tokens are kept in the order of their
 * ids.
 *
 * Shapes: logits [T,V] f32, randoms [T] u32 (uniform over all u32), out [T] u32. A row with NaN or infinity gives NOT_FINITE.
 * Preconditions: V at most 2^22. One workgroup takes a row.
 * Weights are rounded to integers that sum to about 2^31, so that sums depend on no order and a seed always gives the same
 * token; a token less likely than about 2^-32 is never drawn. The boundary of topK and topP is found by radix selection over
 * the logits' bits: four passes with a histogram of counts (topK) or of weights (topP), no sorting.
 */
import {
  checkArguments,
  ensure,
  f32Bits,
  numeric,
  type ProgramSpec,
  type Recorder,
  settings,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { NOT_FINITE } from '../reductions/argmax.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { workgroupReduction } from '../shared/workgroup.js';

/** Settings of `sampleTokens`. */
export interface SampleOptions {
  /** Above 0. */
  readonly temperature: number;
  /** 0: all tokens. */
  readonly topK: number;
  /** Above 0, at most 1: all tokens. */
  readonly topP: number;
}

const sampleSettings = settings<SampleOptions>({ temperature: numeric, topK: whole(), topP: numeric });

/** Sum of the integer weights, about. */
const WHOLE = 2 ** 31;

/** WGSL of four passes that move `cut` to the key at which the sum of `amount`, over keys in falling order, reaches `wanted`. */
const selectCut = (wanted: string, amount: string, tied: string): string => /* wgsl */ `
  if (lane == 0u) { found = Cut(0u, ${wanted}); }
  for (var shift = 24i; shift >= 0i; shift -= 8i) {
    for (var b = lane; b < 256u; b += ${ROW_LANES}u) { atomicStore(&histogram[b], 0u); }
    let digits = workgroupUniformLoad(&found);
    for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
      let value = logits[base + j];
      let key = ordered(value);
      // Shifted twice: WGSL takes a shift of 32 as a shift of 0.
      if (key > kept.key && ((key >> u32(shift)) >> 8u) == digits.key) {
        atomicAdd(&histogram[(key >> u32(shift)) & 255u], ${amount});
      }
    }
    if (lane == 0u && kept.left > 0u && ((kept.key >> u32(shift)) >> 8u) == digits.key) {
      atomicAdd(&histogram[(kept.key >> u32(shift)) & 255u], ${tied});
    }
    workgroupBarrier();
    if (lane == 0u) {
      var left = digits.left;
      var digit = 255u;
      var here = atomicLoad(&histogram[digit]);
      while (here < left && digit > 0u) {
        left -= here;
        digit--;
        here = atomicLoad(&histogram[digit]);
      }
      found = Cut((digits.key << 8u) | digit, left);
    }
    workgroupBarrier();
  }`;

const program: ProgramSpec = rowProgram({
  key: 'sampleTokens',
  bindings: ['read', 'read', 'write'],
  fields: 'top_k: u32, factor: f32, lowest: f32, top_p: f32',
  declarations: /* wgsl */ `
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> randoms: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;
${workgroupReduction('most', ROW_LANES, 'u32', 'max(a, b)')}
${workgroupReduction('sum', ROW_LANES, 'f32', 'a + b')}
${workgroupReduction('whole', ROW_LANES, 'u32', 'a + b')}
var<workgroup> histogram: array<atomic<u32>, 256>;
/** All keys above \`key\`, and the first \`left\` tokens of those with this key. */
struct Cut { key: u32, left: u32 }
var<workgroup> found: Cut;
var<workgroup> ties: array<u32, ${ROW_LANES}>;
var<workgroup> weights: array<u32, ${ROW_LANES}>;
// Maps a float to a u32 of the same order; zeros of either sign are equal.
fn ordered(x: f32) -> u32 {
  let bits = select(bitcast<u32>(x), 0u, x == 0.0);
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}
fn valueOf(key: u32) -> f32 { return bitcast<f32>(select(~key, key & 0x7fffffffu, (key >> 31u) == 1u)); }
// Halves, whose difference does not overflow.
fn weightOf(x: f32, largest: f32) -> f32 { return exp(max(0.5 * x - 0.5 * largest, p.lowest) * p.factor); }
// The upper half of a product.
fn upper(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
}`,
  body: /* wgsl */ `
  let base = row * p.columns;
  var highest = 0u;
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let value = logits[base + j];
    let finite = (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
    highest = max(highest, select(0xffffffffu, ordered(value), finite));
  }
  let all = most(highest, lane);
  if (lane == 0u) { found = Cut(all, 0u); }
  let top = workgroupUniformLoad(&found).key;
  if (top == 0xffffffffu) {
    if (lane == 0u) { out[row] = ${NOT_FINITE}u; }
    return;
  }
  let largest = valueOf(top);

  // Only NaN has key 0: all tokens are above it.
  var kept = Cut(0u, 0u);
  if (p.top_k > 0u && p.top_k < p.columns) {
    ${selectCut('p.top_k', '1u', '0u')}
    kept = workgroupUniformLoad(&found);
  }

  var part = 0.0;
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let value = logits[base + j];
    if (ordered(value) > kept.key) { part += weightOf(value, largest); }
  }
  if (lane == 0u && kept.left > 0u) { part += f32(kept.left) * weightOf(valueOf(kept.key), largest); }
  let scale = ${WHOLE}.0 / sum(part, lane);

  var mine = 0u;
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let value = logits[base + j];
    if (ordered(value) > kept.key) { mine += u32(weightOf(value, largest) * scale); }
  }
  if (lane == 0u && kept.left > 0u) { mine += kept.left * u32(weightOf(valueOf(kept.key), largest) * scale); }
  var total = whole(mine, lane);

  if (p.top_p < 1.0) {
    let wanted = max(1u, min(total, u32(ceil(f32(total) * p.top_p))));
    ${selectCut('wanted', 'u32(weightOf(value, largest) * scale)', 'kept.left * u32(weightOf(valueOf(kept.key), largest) * scale)')}
    let reached = workgroupUniformLoad(&found);
    let each = max(1u, u32(weightOf(valueOf(reached.key), largest) * scale));
    let count = (reached.left + each - 1u) / each;
    total = wanted - reached.left + count * each;
    kept = Cut(reached.key, count);
  }

  // Each invocation takes a run of tokens, so that the order is that of ids.
  let each = u32(weightOf(valueOf(kept.key), largest) * scale);
  let run = (p.columns + ${ROW_LANES - 1}u) / ${ROW_LANES}u;
  let first = min(p.columns, lane * run);
  let end = min(p.columns, first + run);
  var tied = 0u;
  var above = 0u;
  for (var j = first; j < end; j++) {
    let value = logits[base + j];
    let key = ordered(value);
    if (key > kept.key) { above += u32(weightOf(value, largest) * scale); }
    if (key == kept.key) { tied++; }
  }
  ties[lane] = tied;
  workgroupBarrier();
  var before = 0u;
  for (var l = 0u; l < lane; l++) { before += ties[l]; }
  let taken = min(tied, kept.left - min(kept.left, before));
  weights[lane] = above + taken * each;
  workgroupBarrier();
  var at = 0u;
  for (var l = 0u; l < lane; l++) { at += weights[l]; }
  let drawn = upper(randoms[row], total);
  if (drawn >= at && drawn - at < weights[lane]) {
    var left = taken;
    for (var j = first; j < end; j++) {
      let value = logits[base + j];
      let key = ordered(value);
      if (key > kept.key) { at += u32(weightOf(value, largest) * scale); }
      if (key == kept.key && left > 0u) {
        at += each;
        left--;
      }
      if (drawn < at) {
        out[row] = j;
        break;
      }
    }
  }`,
});

/** Draws a token for each row of logits [T,V] f32 by a random number [T] u32; out [T] u32. @throws RmError INVALID_ARGUMENT. */
export function sampleTokens(
  rec: Recorder,
  logits: Tensor,
  randoms: Tensor,
  out: Tensor,
  options: SampleOptions,
): void {
  checkOperands('sampleTokens', rec, { logits, randoms, out });
  checkArguments('sampleTokens', { options }, { options: sampleSettings });
  const { temperature, topK, topP } = options;
  const [rows, columns] = checkMatrix('sampleTokens', 'logits', logits);
  checkTensor('sampleTokens', 'randoms', randoms, [rows], ['u32']);
  checkTensor('sampleTokens', 'out', out, [rows], ['u32']);
  ensure(temperature > 0, `sampleTokens: the temperature is ${temperature}`, 'Give a number above 0.');
  ensure(
    Number.isInteger(topK) && topK >= 0 && topP > 0 && topP <= 1,
    `sampleTokens: topK is ${topK}, topP ${topP}`,
    'Give a whole number, and a share above 0 and at most 1.',
  );
  const passes = 6 + 4 * Number(topK > 0) + 4 * Number(topP < 1);
  // Finite, whatever the temperature; e^-100 is no weight.
  const inverse = Math.min(1e30, Math.max(1e-30, 1 / temperature));
  runRows(
    rec,
    program,
    [logits, randoms, out],
    [rows, columns],
    [Math.min(topK, columns), f32Bits(2 * inverse), f32Bits(-50 / inverse), f32Bits(topP)],
    { flops: 8 * passes * logits.size, bytes: 4 * passes * logits.size },
  );
}
