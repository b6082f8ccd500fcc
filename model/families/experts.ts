import type { Architecture, Experts, LayerTensorNames, TensorStack } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';

/** Of all layers together: twice as many as the largest models have, and few enough to list their tensors. */
const MOST_EXPERTS = 50_000;

/** Reads how many experts a layer has, and how many of them a token uses. */
export function readExperts(
  config: ConfigReader,
  field: string,
  defaults: Pick<Experts, 'count' | 'perToken'>,
): Pick<Experts, 'count' | 'perToken'> {
  const count = config.count(field, defaults.count);
  if (count * config.count('num_hidden_layers') > MOST_EXPERTS) {
    throw config.invalid(field, `is ${count}, more than any model has`);
  }
  const perToken = config.count('num_experts_per_tok', defaults.perToken);
  if (perToken > count) {
    throw config.invalid('num_experts_per_tok', `is ${perToken}, but there are only ${count} experts`);
  }
  return { count, perToken };
}

/** The experts of a model, and how many features of theirs a token uses. */
export const withExperts = (
  experts: Experts,
  hasDenseLayers: boolean,
): Pick<Architecture, 'intermediate' | 'experts'> => ({
  intermediate: Math.max(
    experts.perToken * experts.features + experts.shared,
    hasDenseLayers ? experts.dense : 0,
  ),
  experts,
});

/** The matrices of a layer's experts, which are stored one by one: `place` names those of an expert. */
export function expertMatrices(
  { count }: Pick<Experts, 'count'>,
  place: (expert: number) => string,
  [gate, up, down]: readonly [gate: string, up: string, down: string],
): Pick<LayerTensorNames, 'gate' | 'up' | 'down'> {
  const stack = (name: string): TensorStack => ({
    names: Array.from({ length: count }, (_, e) => `${place(e)}.${name}.weight`),
  });
  return { gate: stack(gate), up: stack(up), down: stack(down) };
}
