import {
  checkArguments,
  ensure,
  type ProgramSpec,
  type Recorder,
  Scope,
  settings,
  type Tensor,
} from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor, floats, maybeTensor } from '../shared/checks.js';
import { NAN_BITS } from '../shared/flat.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { rowTiles } from '../shared/rowTiles.js';
import { scalarTensor } from '../shared/wgsl.js';
import { workgroupReduction } from '../shared/workgroup.js';
import { type LogitForm, logitTile, maybeLogitForm } from './logitTile.js';

const TILE_ELEMENTS = 16 << 20;

/** Columns of a tile of logits, at most `most`. A tile takes at most 64 MiB for up to 65,536 tokens. */
export const tileColumns = (tokens: number, most: number): number =>
  Math.min(most, Math.max(256, Math.floor(TILE_ELEMENTS / Math.max(1, tokens))));

const program: ProgramSpec = rowProgram({
  key: 'logLikelihood',
  bindings: ['read', 'read', 'write', 'write', 'write'],
  fields: 'start: u32, first: u32, last: u32, nan: u32',
  declarations: `${scalarTensor('logits', 1, 'f32')}
${scalarTensor('targets', 2, 'u32')}
@group(0) @binding(3) var<storage, read_write> state: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read_write> below: array<f32>;
${workgroupReduction('most', ROW_LANES, 'f32', 'max(a, b)')}
${workgroupReduction('sum', ROW_LANES, 'f32', 'a + b')}`,
  body: `
  let base = row * p.columns;
  // (maximum, sum of e^(logit - maximum), logit of the target)
  var old = vec4f(-1.0e38, 0.0, bitcast<f32>(p.nan), 0.0);
  if (p.first == 0u) { old = state[row]; }
  var mine = old.x;
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) { mine = max(mine, logits(base + j)); }
  let largest = most(mine, lane);
  var part = 0.0;
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) { part += exp(logits(base + j) - largest); }
  let total = old.y * exp(old.x - largest) + sum(part, lane);
  if (lane == 0u) {
    let at = targets(row) - p.start;
    var logit = old.z;
    if (targets(row) >= p.start && at < p.columns) { logit = logits(base + at); }
    state[row] = vec4f(largest, total, logit, 0.0);
    if (p.last == 1u) {
      out[row] = (logit - largest) - log(total);
      below[row] = logit - largest;
    }
  }`,
});

/** Settings of `logLikelihood`. */
export interface LogLikelihoodOptions {
  /** How the model scales and caps its logits. */
  form?: LogitForm;
  /** [V] f32: the head's bias. */
  bias?: Tensor | undefined;
  /** [T] f32: receives the target's logit minus the largest logit. */
  below?: Tensor;
}

const likelihoodSettings = settings<LogLikelihoodOptions>({
  form: maybeLogitForm,
  bias: maybeTensor,
  below: maybeTensor,
});

/** Logits [T, columns] of the vocabulary from token `start` on. */
interface LogitsTile {
  logits: Tensor;
  start: number;
  first: boolean;
  last: boolean;
}

/**
 * Adds a tile to the state [T, 4] f32 of every token: (maximum, sum of e^(logit - maximum), logit of the target). The last
 * tile writes `out` and `below` [T] f32, as `logLikelihood` does.
 */
export function addTile(
  rec: Recorder,
  { logits, start, first, last }: LogitsTile,
  { targets, state, out, below }: Readonly<Record<'targets' | 'state' | 'out' | 'below', Tensor>>,
): void {
  runRows(
    rec,
    program,
    [logits, targets, state, out, below],
    [logits.rowCount, logits.columns],
    [start, first ? 1 : 0, last ? 1 : 0, NAN_BITS],
    { flops: 4 * logits.size, bytes: 4 * logits.size },
  );
}

/**
 * Log-likelihood of the next tokens: out[t] = log p(targets[t] | hidden[t]) in nats; hidden [T,D] f32, head [V,D]
 * f32|f16|bf16, targets [T] u32, out [T] f32. @throws RmError INVALID_ARGUMENT.
 */
export function logLikelihood(
  rec: Recorder,
  hidden: Tensor,
  head: Tensor,
  targets: Tensor,
  out: Tensor,
  options: LogLikelihoodOptions = {},
): void {
  checkOperands('logLikelihood', rec, { hidden, head, targets, out });
  checkArguments('logLikelihood', { options }, { options: likelihoodSettings });
  const { form, bias, below } = options;
  const [tokens, depth] = checkMatrix('logLikelihood', 'hidden', hidden);
  const [vocabulary] = checkMatrix('logLikelihood', 'head', head, floats);
  checkTensor('logLikelihood', 'head', head, [vocabulary, depth], floats);
  checkTensor('logLikelihood', 'targets', targets, [tokens], ['u32']);
  checkTensor('logLikelihood', 'out', out, [tokens]);
  if (bias) checkTensor('logLikelihood', 'bias', bias, [vocabulary]);
  if (below) checkTensor('logLikelihood', 'below', below, [tokens]);
  ensure(vocabulary > 0, 'logLikelihood: the output head has no rows', 'Pass the head of a model.');
  using scope = new Scope(hidden.device);
  const state = scope.tensor([tokens, 4], 'f32', 'log-likelihood state');
  const distance = below ?? scope.tensor([tokens], 'f32', 'distance to the largest logit');
  const tiles = rowTiles(head, tileColumns(tokens, 16384));
  const scratch = scope.tensor([tokens * tiles[0]!.tensor.rowCount], 'f32', 'tile of logits');
  tiles.forEach(({ start, tensor }, i) => {
    const columns = tensor.rowCount;
    const logits = scratch.rows(0, tokens * columns).reshape([tokens, columns]);
    logitTile(rec, hidden, tensor, logits, form, bias?.rows(start, columns));
    const tile = { logits, start, first: i === 0, last: i === tiles.length - 1 };
    addTile(rec, tile, { targets, state, out, below: distance });
  });
}
