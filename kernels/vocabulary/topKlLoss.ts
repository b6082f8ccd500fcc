import {
  checkArguments,
  type ProgramSpec,
  type Recorder,
  Scope,
  settings,
  type Tensor,
} from '../../engine/index.js';
import { aTensor, checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, NAN_BITS, runFlat } from '../shared/flat.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { workgroupReduction } from '../shared/workgroup.js';
import { addTile } from './logLikelihood.js';
import {
  checkPredictions,
  type LossGradients,
  type Predictions,
  theGradients,
  thePredictions,
  vocabularyPasses,
} from './vocabularyPasses.js';

/** A teacher's K likeliest tokens, as `topLogProbabilities` writes them. */
export interface TopProbabilities {
  /** u32 [T, K], all different within a row. */
  ids: Tensor;
  /** f32 [T, K], log-probabilities in nats. */
  logProbabilities: Tensor;
  /** f32 [T], logarithm of the total probability of all other tokens; -1e38 if that is 0. */
  logRest: Tensor;
}

/** The form of `TopProbabilities`. */
export const theProbabilities = settings<TopProbabilities>({
  ids: aTensor,
  logProbabilities: aTensor,
  logRest: aTensor,
});

/** So far below any logit that its exponential is 0 even next to the lowest running maximum. */
const TAKEN = '-3.0e38';

/** WGSL of entry i of the lists, which belongs to token i / k, and of its place in the tile. */
const entry = `
  let row = i / p.k;
  let column = ids[i] - p.start;
  let at = row * p.columns + column;
  let inside = ids[i] >= p.start && column < p.columns;`;

const takeOut: ProgramSpec = flatProgram({
  key: 'topKlLoss take out',
  bindings: ['read', 'write', 'write'],
  fields: 'k: u32, columns: u32, start: u32, first: u32, nan: u32',
  declarations: `
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> taken: array<f32>;`,
  body: `${entry}
  if (inside) {
    taken[i] = logits[at];
    logits[at] = ${TAKEN};
  } else if (p.first != 0u) {
    taken[i] = bitcast<f32>(p.nan);
  }`,
});

const putIn: ProgramSpec = flatProgram({
  key: 'topKlLoss put in',
  bindings: ['read', 'read', 'write'],
  fields: 'k: u32, columns: u32, start: u32',
  declarations: `
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> slopes: array<f32>;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;`,
  body: `${entry}
  if (inside) { logits[at] = slopes[i]; }`,
});

/**
 * The loss of a row. Overwrites `taken` with the slopes of the K tokens, and writes `factors` of the other slopes: log sum,
 * weight * mass, weight * rest probability / rest sum, rest maximum.
 */
const finish: ProgramSpec = rowProgram({
  key: 'topKlLoss loss',
  bindings: ['read', 'read', 'read', 'read', 'write', 'write', 'write'],
  declarations: `
@group(0) @binding(1) var<storage, read> logProbabilities: array<f32>;
@group(0) @binding(2) var<storage, read> logRest: array<f32>;
@group(0) @binding(3) var<storage, read> weights: array<f32>;
@group(0) @binding(4) var<storage, read> state: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> taken: array<f32>;
@group(0) @binding(6) var<storage, read_write> factors: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> loss: array<f32>;
${workgroupReduction('most', ROW_LANES, 'f32', 'max(a, b)')}
${workgroupReduction('sum', ROW_LANES, 'vec2f', 'a + b')}`,
  body: `
  let base = row * p.columns;
  let rest = state[row];
  var mine = rest.x;
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) { mine = max(mine, taken[base + j]); }
  let largest = most(mine, lane);
  var part = vec2f(0.0);
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    part += vec2f(exp(taken[base + j] - largest), exp(logProbabilities[base + j]));
  }
  let sums = sum(part, lane);
  let logSum = largest + log(sums.x + rest.y * exp(rest.x - largest));
  let r = exp(logRest[row]);
  let mass = sums.y + r;
  let weight = weights[row];
  part = vec2f(0.0);
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let logP = logProbabilities[base + j];
    let logQ = taken[base + j] - logSum;
    part.x += exp(logP) * (logP - logQ);
    taken[base + j] = weight * (mass * exp(logQ) - exp(logP));
  }
  var total = sum(part, lane).x;
  if (lane == 0u) {
    if (r > 0.0 && rest.y > 0.0) { total += r * (logRest[row] - (rest.x + log(rest.y) - logSum)); }
    loss[row] = total;
    factors[row] = vec4f(logSum, weight * mass, select(0.0, weight * r / rest.y, rest.y > 0.0), rest.x);
  }`,
});

const restSlopes: ProgramSpec = flatProgram({
  key: 'topKlLoss slopes of the rest',
  bindings: ['read', 'write'],
  fields: 'columns: u32',
  declarations: `
@group(0) @binding(1) var<storage, read> factors: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;`,
  body: `
  let f = factors[i / p.columns];
  // Only the K tokens exceed the rest's maximum; the next program overwrites their slopes.
  logits[i] = f.y * exp(logits[i] - f.x) - f.z * exp(min(logits[i] - f.w, 0.0));`,
});

/**
 * Distillation loss from a teacher's K likeliest tokens: loss[t] = KL(teacher || student) with all other tokens merged
 * into one; loss, weights [T] f32. Pass a tensor for each gradient of sum(weights * loss) that you want.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function topKlLoss(
  rec: Recorder,
  student: Predictions,
  teacher: TopProbabilities,
  weights: Tensor,
  loss: Tensor,
  gradients: LossGradients = {},
): void {
  const kernel = 'topKlLoss';
  checkOperands(kernel, rec, { weights, loss });
  checkArguments(
    kernel,
    { student, teacher, gradients },
    { student: thePredictions, teacher: theProbabilities, gradients: theGradients },
  );
  const { ids, logProbabilities, logRest } = teacher;
  const { tokens } = checkPredictions(kernel, { student });
  const [, k] = checkMatrix(kernel, 'ids', ids, ['u32']);
  checkTensor(kernel, 'ids', ids, [tokens, k], ['u32']);
  checkTensor(kernel, 'logProbabilities', logProbabilities, [tokens, k]);
  for (const [name, tensor] of Object.entries({ logRest, weights, loss }))
    checkTensor(kernel, name, tensor, [tokens]);
  using scope = new Scope(weights.device);
  const state = scope.tensor([tokens, 4], 'f32', 'state of the rest');
  const [out, below] = [scope.tensor([tokens]), scope.tensor([tokens])];
  const noTargets = scope.tensor([tokens], 'u32', 'no targets');
  rec.clear(noTargets);
  const taken = scope.tensor([tokens, k], 'f32', 'logits taken out');
  const factors = scope.tensor([tokens, 4], 'f32', 'factors of the rest');
  const entries = { flops: 0, bytes: 16 * tokens * k };
  vocabularyPasses(
    rec,
    [student],
    {
      begin: () => tile => {
        const { start, columns, first, last } = tile;
        const logits = tile.logits[0]!;
        const params = [k, columns, start, first ? 1 : 0, NAN_BITS];
        runFlat(rec, takeOut, [ids, logits, taken], tokens * k, params, entries);
        addTile(rec, { ...tile, logits }, { targets: noTargets, state, out, below });
        if (!last) return;
        const tensors = [logProbabilities, logRest, weights, state, taken, factors, loss];
        runRows(rec, finish, tensors, [tokens, k], [], { flops: 12 * tokens * k, bytes: 12 * tokens * k });
      },
      slope({ start, columns, logits: [logits] }) {
        runFlat(rec, restSlopes, [factors, logits!], tokens * columns, [columns], {
          flops: 6 * tokens * columns,
          bytes: 8 * tokens * columns,
        });
        runFlat(rec, putIn, [ids, taken, logits!], tokens * k, [k, columns, start], entries);
      },
    },
    gradients,
  );
}
