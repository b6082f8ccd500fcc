import {
  checkArguments,
  type ProgramSpec,
  type Recorder,
  Scope,
  settings,
  type Tensor,
} from '../../engine/index.js';
import { aTensor, checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, NAN_BITS, runFlat } from '../shared/flat.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { scalarTensor } from '../shared/wgsl.js';
import { bestReduction, workgroupReduction } from '../shared/workgroup.js';
import { checkPredictions, type Predictions, thePredictions, vocabularyPasses } from './vocabularyPasses.js';

/** Results of `compareDistributions`, each [T]: -log p of the targets and KL(a || b) in nats, f32; likeliest tokens, u32. */
export interface DistributionComparison {
  nllA: Tensor;
  nllB: Tensor;
  kl: Tensor;
  topA: Tensor;
  topB: Tensor;
}

const theComparison = settings<DistributionComparison>({
  nllA: aTensor,
  nllB: aTensor,
  kl: aTensor,
  topA: aTensor,
  topB: aTensor,
});

/** WGSL of the running state of a token. Indices are u32: as bits of an f32 they would be subnormal and could be flushed. */
export const comparisonState = /* wgsl */ `
struct State {
  most: vec2f, sum: vec2f, target_logit: vec2f, s: f32, pad: f32,
  top: vec2u, pad2: vec2u,
}`;
const STATE_WORDS = 12;

const update: ProgramSpec = rowProgram({
  key: 'compareDistributions',
  bindings: ['read', 'read', 'read', 'write'],
  fields: 'start: u32, first: u32, nan: u32',
  declarations: `${comparisonState}
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
${scalarTensor('targets', 3, 'u32')}
@group(0) @binding(4) var<storage, read_write> states: array<State>;
${bestReduction(ROW_LANES)}
${workgroupReduction('sum', ROW_LANES, 'vec3f', 'a + b')}
fn ab(i: u32) -> vec2f { return vec2f(a[i], b[i]); }`,
  body: `
  let base = row * p.columns;
  var old: State;
  old.most = vec2f(-3.0e38);
  old.target_logit = vec2f(bitcast<f32>(p.nan));
  if (p.first == 0u) { old = states[row]; }
  var mine_a = NOTHING;
  var mine_b = NOTHING;
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let value = ab(base + j);
    mine_a = better(mine_a, Best(value.x, p.start + j));
    mine_b = better(mine_b, Best(value.y, p.start + j));
  }
  let best_a = best(mine_a, lane);
  let best_b = best(mine_b, lane);
  var next = old;
  if (best_a.value > old.most.x) { next.most.x = best_a.value; next.top.x = best_a.index; }
  if (best_b.value > old.most.y) { next.most.y = best_b.value; next.top.y = best_b.index; }
  var part = vec3f(0.0);
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let below = ab(base + j) - next.most;
    let e = exp(below);
    part += vec3f(e, e.x * (below.x - below.y));
  }
  let added = sum(part, lane);
  if (lane == 0u) {
    // The first tile has no older sums to rescale: the old maxima are placeholders.
    if (p.first == 0u) {
      let rise = next.most - old.most;
      let fade = exp(-rise);
      next.s = fade.x * (old.s - old.sum.x * (rise.x - rise.y));
      next.sum = fade * old.sum;
    }
    next.sum += added.xy;
    next.s += added.z;
    let at = targets(row) - p.start;
    if (targets(row) >= p.start && at < p.columns) { next.target_logit = ab(base + at); }
    states[row] = next;
  }`,
});

const finish: ProgramSpec = flatProgram({
  key: 'compareDistributions results',
  bindings: ['read', 'write', 'write', 'write', 'write', 'write'],
  declarations: `${comparisonState}
@group(0) @binding(1) var<storage, read> states: array<State>;
@group(0) @binding(2) var<storage, read_write> nll_a: array<f32>;
@group(0) @binding(3) var<storage, read_write> nll_b: array<f32>;
@group(0) @binding(4) var<storage, read_write> kl: array<f32>;
@group(0) @binding(5) var<storage, read_write> top_a: array<u32>;
@group(0) @binding(6) var<storage, read_write> top_b: array<u32>;`,
  body: `
  let row = states[i];
  let nll = (row.most - row.target_logit) + log(row.sum);
  nll_a[i] = nll.x;
  nll_b[i] = nll.y;
  kl[i] = row.s / row.sum.x + log(row.sum.y / row.sum.x);
  top_a[i] = row.top.x;
  top_b[i] = row.top.y;`,
});

/** Creates the state of `addComparison` for `tokens` tokens. */
export const comparisonTensor = (scope: Scope, tokens: number): Tensor =>
  scope.tensor([tokens, STATE_WORDS], 'f32', 'comparison state');

/** Adds both models' logits [T, columns] of the vocabulary from token `start` on; start 0 resets the state. */
export function addComparison(
  rec: Recorder,
  logits: readonly [a: Tensor, b: Tensor],
  targets: Tensor,
  states: Tensor,
  start: number,
): void {
  const { size, rowCount, columns } = logits[0];
  runRows(
    rec,
    update,
    [...logits, targets, states],
    [rowCount, columns],
    [start, start === 0 ? 1 : 0, NAN_BITS],
    { flops: 10 * size, bytes: 8 * size },
  );
}

/** Computes the results from the state, after the last tile. */
export function finishComparison(rec: Recorder, states: Tensor, out: DistributionComparison): void {
  const { nllA, nllB, kl, topA, topB } = out;
  const tokens = kl.size;
  runFlat(rec, finish, [states, nllA, nllB, kl, topA, topB], tokens, [], {
    flops: 10 * tokens,
    bytes: 4 * tokens * (STATE_WORDS + 5),
  });
}

/**
 * Compares the next-token distributions of two models on the same tokens: writes nllA, nllB and kl = KL(a || b) [T] f32
 * in nats, and topA, topB [T] u32; targets [T] u32.
 *
 * @throws RmError INVALID_ARGUMENT when shapes do not fit or the vocabularies differ in size.
 */
export function compareDistributions(
  rec: Recorder,
  a: Predictions,
  b: Predictions,
  targets: Tensor,
  out: DistributionComparison,
): void {
  checkOperands('compareDistributions', rec, { targets });
  checkArguments(
    'compareDistributions',
    { a, b, out },
    { a: thePredictions, b: thePredictions, out: theComparison },
  );
  const tokens = targets.size;
  checkPredictions('compareDistributions', { a, b });
  checkTensor('compareDistributions', 'targets', targets, [tokens], ['u32']);
  const { nllA, nllB, kl, topA, topB } = out;
  for (const [name, tensor] of Object.entries({ nllA, nllB, kl })) {
    checkTensor('compareDistributions', name, tensor, [tokens]);
  }
  for (const [name, tensor] of Object.entries({ topA, topB })) {
    checkTensor('compareDistributions', name, tensor, [tokens], ['u32']);
  }
  using scope = new Scope(targets.device);
  const states = comparisonTensor(scope, tokens);
  vocabularyPasses(rec, [a, b], {
    begin:
      () =>
      ({ start, logits: [la, lb] }) =>
        addComparison(rec, [la!, lb!], targets, states, start),
  });
  finishComparison(rec, states, out);
}
