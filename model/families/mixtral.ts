import { commonWindow, type TextFamily } from './decoder.js';
import { expertMatrices, readExperts, withExperts } from './experts.js';
import { likeLlama } from './llama.js';

/**
 * Mixtral: a Mistral with several MLPs (experts) per layer; a router chooses the best few for each token. Source:
 * transformers/models/mixtral.
 */
export const mixtral: TextFamily = (config, has) => {
  const experts = readExperts(config, 'num_local_experts', { count: 8, perToken: 2 });
  return likeLlama(config, has, {
    theta: 1_000_000,
    layer: (names, at) => ({
      ...names,
      router: `${at}.block_sparse_moe.gate.weight`,
      ...expertMatrices(experts, e => `${at}.block_sparse_moe.experts.${e}`, ['w1', 'w3', 'w2']),
    }),
    traits: ({ layers, intermediate }) => ({
      ...withExperts(
        { ...experts, features: intermediate, shared: 0, dense: intermediate, softmaxOver: 'chosen' },
        false,
      ),
      attentionWindow: commonWindow(config, layers, null),
    }),
  });
};
