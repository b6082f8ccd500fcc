import { checkArguments, type ProgramSpec, type Recorder, Scope, type Tensor } from '../../engine/index.js';
import { scale } from '../map/named.js';
import { checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { addTile } from './logLikelihood.js';
import {
  checkPredictions,
  type LossGradients,
  type Predictions,
  theGradients,
  thePredictions,
  vocabularyPasses,
} from './vocabularyPasses.js';

const slopes: ProgramSpec = flatProgram({
  key: 'crossEntropyLoss slopes',
  bindings: ['read', 'read', 'read', 'write'],
  fields: 'columns: u32, start: u32',
  declarations: `
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> state: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> logits: array<f32>;`,
  body: `
  let row = i / p.columns;
  let sums = state[row];
  let hit = targets[row] == p.start + i % p.columns;
  logits[i] = weights[row] * (exp(logits[i] - sums.x) / sums.y - select(0.0, 1.0, hit));`,
});

/**
 * Cross-entropy loss: loss[t] = -log p(targets[t] | hidden[t]); loss, weights [T] f32, targets [T] u32. Pass a tensor for
 * each gradient of sum(weights * loss) that you want. @throws RmError INVALID_ARGUMENT.
 */
export function crossEntropyLoss(
  rec: Recorder,
  student: Predictions,
  targets: Tensor,
  weights: Tensor,
  loss: Tensor,
  gradients: LossGradients = {},
): void {
  checkOperands('crossEntropyLoss', rec, { targets, weights, loss });
  checkArguments(
    'crossEntropyLoss',
    { student, gradients },
    { student: thePredictions, gradients: theGradients },
  );
  const { tokens } = checkPredictions('crossEntropyLoss', { student });
  checkTensor('crossEntropyLoss', 'targets', targets, [tokens], ['u32']);
  checkTensor('crossEntropyLoss', 'weights', weights, [tokens]);
  checkTensor('crossEntropyLoss', 'loss', loss, [tokens]);
  using scope = new Scope(loss.device);
  const state = scope.tensor([tokens, 4], 'f32', 'cross-entropy state');
  const below = scope.tensor([tokens], 'f32', 'distance to the largest logit');
  vocabularyPasses(
    rec,
    [student],
    {
      begin: () => tile =>
        addTile(rec, { ...tile, logits: tile.logits[0]! }, { targets, state, out: loss, below }),
      slope({ start, columns, logits: [logits] }) {
        runFlat(rec, slopes, [targets, weights, state, logits!], tokens * columns, [columns, start], {
          flops: 5 * tokens * columns,
          bytes: 8 * tokens * columns,
        });
      },
    },
    gradients,
  );
  scale(rec, loss, -1);
}
