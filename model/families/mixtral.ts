import type { Architecture, LayerTensorNames, TensorStack } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import { commonWindow, type HasTensor } from './decoder.js';
import { likeLlama } from './llama.js';

/** Of all layers together: twice as many as the largest models have, and few enough to list their tensors. */
const MOST_EXPERTS = 50_000;

/**
 * Mixtral: a Mistral with several MLPs (experts) per layer; a router chooses the best few for each token. All experts are
 * computed as one wide MLP whose features are scaled by the router's weights. Source: transformers/models/mixtral.
 */
export function mixtral(config: ConfigReader, has: HasTensor): Architecture {
  const count = config.count('num_local_experts', 8);
  if (count * config.count('num_hidden_layers') > MOST_EXPERTS) {
    throw config.invalid('num_local_experts', `is ${count}, more than any model has`);
  }
  const perToken = config.count('num_experts_per_tok', 2);
  if (perToken > count) {
    throw config.invalid('num_experts_per_tok', `is ${perToken}, but there are only ${count} experts`);
  }
  return likeLlama(config, has, {
    theta: 1_000_000,
    layer: (names, at) => withExperts(names, at, count),
    traits: ({ layers, intermediate }) => ({
      intermediate: count * intermediate,
      experts: { count, perToken },
      attentionWindow: commonWindow(config, layers, null),
    }),
  });
}

function withExperts(names: LayerTensorNames, at: string, count: number): LayerTensorNames {
  const stack = (weight: string, along: TensorStack['along']): TensorStack => ({
    along,
    names: Array.from({ length: count }, (_, e) => `${at}.block_sparse_moe.experts.${e}.${weight}.weight`),
  });
  return {
    ...names,
    router: `${at}.block_sparse_moe.gate.weight`,
    gate: stack('w1', 'rows'),
    up: stack('w3', 'rows'),
    down: stack('w2', 'columns'),
  };
}
