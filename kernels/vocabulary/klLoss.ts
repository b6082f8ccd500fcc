import { checkArguments, type ProgramSpec, type Recorder, Scope, type Tensor } from '../../engine/index.js';
import { checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import {
  addComparison,
  comparisonState,
  comparisonTensor,
  finishComparison,
} from './compareDistributions.js';
import {
  checkPredictions,
  type LossGradients,
  type Predictions,
  theGradients,
  thePredictions,
  vocabularyPasses,
} from './vocabularyPasses.js';

const slopes: ProgramSpec = flatProgram({
  key: 'klLoss slopes',
  bindings: ['read', 'read', 'read', 'write'],
  fields: 'columns: u32',
  declarations: `${comparisonState}
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> states: array<State>;
@group(0) @binding(3) var<storage, read> teacher: array<f32>;
@group(0) @binding(4) var<storage, read_write> logits: array<f32>;`,
  body: `
  let row = i / p.columns;
  // The same formula for both, so that equal models give exactly 0.
  let pq = exp(vec2f(teacher[i], logits[i]) - states[row].most) / states[row].sum;
  logits[i] = weights[row] * (pq.y - pq.x);`,
});

/**
 * Distillation loss: loss[t] = KL(teacher || student) for token t; loss, weights [T] f32. Pass a tensor for each gradient
 * of sum(weights * loss) by the student that you want. @throws RmError INVALID_ARGUMENT.
 */
export function klLoss(
  rec: Recorder,
  student: Predictions,
  teacher: Predictions,
  weights: Tensor,
  loss: Tensor,
  gradients: LossGradients = {},
): void {
  checkOperands('klLoss', rec, { weights, loss });
  checkArguments(
    'klLoss',
    { student, teacher, gradients },
    { student: thePredictions, teacher: thePredictions, gradients: theGradients },
  );
  const { tokens } = checkPredictions('klLoss', { student, teacher });
  checkTensor('klLoss', 'weights', weights, [tokens]);
  checkTensor('klLoss', 'loss', loss, [tokens]);
  using scope = new Scope(weights.device);
  const states = comparisonTensor(scope, tokens);
  const targets = scope.tensor([tokens], 'u32', 'no targets');
  rec.clear(targets);
  vocabularyPasses(
    rec,
    [student, teacher],
    {
      begin:
        () =>
        ({ start, logits: [b, a] }) =>
          addComparison(rec, [a!, b!], targets, states, start),
      slope({ columns, logits: [b, a] }) {
        runFlat(rec, slopes, [weights, states, a!, b!], tokens * columns, [columns], {
          flops: 8 * tokens * columns,
          bytes: 12 * tokens * columns,
        });
      },
    },
    gradients,
  );
  const [nllA, nllB] = [scope.tensor([tokens]), scope.tensor([tokens])];
  const [topA, topB] = [scope.tensor([tokens], 'u32'), scope.tensor([tokens], 'u32')];
  finishComparison(rec, states, { nllA, nllB, kl: loss, topA, topB });
}
