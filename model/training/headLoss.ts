import { Scope, type Tensor } from '../../engine/index.js';
import {
  crossEntropyLoss,
  klLoss,
  type Predictions,
  type TopProbabilities,
  topKlLoss,
} from '../../kernels/index.js';
import type { Model } from '../transformer/model.js';
import { normaliseBackward } from '../transformer/norm.js';
import { finalNorm } from '../transformer/transformer.js';

/** What a model is trained towards, token by token. */
export type Objective =
  /** The next token: cross-entropy. Targets u32 [T]; where there is none, any with a weight of 0. */
  | { readonly kind: 'lm'; readonly targets: Tensor }
  /** A teacher's distribution over all tokens: KL(teacher || model). */
  | { readonly kind: 'kl'; readonly teacher: Predictions }
  /** A teacher's likeliest tokens, and all others as one. */
  | { readonly kind: 'top-kl'; readonly teacher: TopProbabilities };

/** Which gradients `headLoss` computes; f32. */
export interface HeadGradients {
  /** Of the hidden states before the final norm, [T, hidden]: written. */
  readonly hidden?: Tensor | undefined;
  /** Of the weights: added to. */
  readonly finalNorm?: Tensor | undefined;
  readonly finalNormBias?: Tensor | undefined;
  readonly lmHead?: Tensor | undefined;
}

/**
 * The loss of every token in nats (loss [T] f32, as if its weight were 1), and of the sum of weights[t] loss[t] the
 * gradients asked for. hidden [T, hidden] f32 are the states before the final norm; weights [T] f32 carry mask and mean.
 *
 * @throws RmError INVALID_ARGUMENT when shapes do not fit, e.g. the vocabularies of model and teacher.
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
  const student = { hidden: normed, head: model.weights.lmHead, form: arch.logitForm };
  const { finalNorm: weightGradient, finalNormBias: biasGradient, lmHead: head } = gradients;
  const slopes =
    gradients.hidden || weightGradient || biasGradient
      ? scope.tensor(hidden.shape, 'f32', 'gradient of the normed states')
      : undefined;
  const wanted = { hidden: slopes, head };
  if (objective.kind === 'lm') crossEntropyLoss(rec, student, objective.targets, weights, loss, wanted);
  else if (objective.kind === 'kl') klLoss(rec, student, objective.teacher, weights, loss, wanted);
  else topKlLoss(rec, student, objective.teacher, weights, loss, wanted);
  if (!slopes) return;
  const target = gradients.hidden ?? scope.tensor(hidden.shape, 'f32', 'gradient of the states');
  normaliseBackward(rec, arch.norm, hidden, model.weights.finalNorm, slopes, target, {
    weightGradient,
    biasGradient,
  });
}
