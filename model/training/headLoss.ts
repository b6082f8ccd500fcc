import { Scope, type Tensor } from '../../engine/index.js';
import {
  crossEntropyLoss,
  klLoss,
  type Predictions,
  type TopProbabilities,
  topKlLoss,
} from '../../kernels/index.js';
import { predictionsOf } from '../transformer/headLogits.js';
import type { Model } from '../transformer/model.js';
import { normaliseBackward } from '../transformer/norm.js';
import { finalNorm } from '../transformer/transformer.js';

/** The training target of each token. */
export type Objective =
  /** The next token: cross-entropy. Targets u32 [T]; give a token without a target any value and weight 0. */
  | { readonly kind: 'lm'; readonly targets: Tensor }
  /** A teacher's distribution over all tokens: KL(teacher || model). */
  | { readonly kind: 'kl'; readonly teacher: Predictions }
  /** A teacher's most likely tokens, with all others merged into one. */
  | { readonly kind: 'top-kl'; readonly teacher: TopProbabilities };

/** The gradients that `headLoss` computes, f32: pass a tensor for each one you want. */
export interface HeadGradients {
  /** Gradient of the hidden states before the final norm, [T, hidden]: overwritten. */
  readonly hidden?: Tensor | undefined;
  /** Gradients of the weights: accumulated. */
  readonly finalNorm?: Tensor | undefined;
  readonly finalNormBias?: Tensor | undefined;
  readonly lmHead?: Tensor | undefined;
  readonly lmHeadBias?: Tensor | undefined;
}

/**
 * Computes the loss of every token (loss [T] f32, nats, unweighted) and the gradients of sum over t of weights[t] loss[t].
 * hidden [T, hidden] f32 are the states before the final norm; weights [T] f32 carry mask and mean.
 *
 * @throws RmError INVALID_ARGUMENT if shapes do not match, e.g. the vocabularies of model and teacher.
 */
export function headLoss(
  model: Model,
  hidden: Tensor,
  objective: Objective,
  weights: Tensor,
  loss: Tensor,
  gradients: HeadGradients = {},
): void {
  const { device, arch } = model;
  const rec = device.recorder;
  using scope = new Scope(device);
  const normed = scope.own(finalNorm(model, hidden));
  const student = predictionsOf(model, normed);
  const { finalNorm: weightGradient, finalNormBias: biasGradient, lmHead: head, lmHeadBias } = gradients;
  const slopes =
    gradients.hidden || weightGradient || biasGradient
      ? scope.tensor(hidden.shape, 'f32', 'gradient of the normed states')
      : undefined;
  const outputs = { hidden: slopes, head, bias: lmHeadBias };
  if (objective.kind === 'lm') crossEntropyLoss(rec, student, objective.targets, weights, loss, outputs);
  else if (objective.kind === 'kl') klLoss(rec, student, objective.teacher, weights, loss, outputs);
  else topKlLoss(rec, student, objective.teacher, weights, loss, outputs);
  if (!slopes) return;
  const target = gradients.hidden ?? scope.tensor(hidden.shape, 'f32', 'gradient of the states');
  normaliseBackward(rec, arch.norm, hidden, model.weights.finalNorm, slopes, target, {
    weightGradient,
    biasGradient,
  });
}
