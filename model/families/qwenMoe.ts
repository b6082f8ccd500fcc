import type { Experts, LayerTensorNames } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import { commonWindow, layerKinds, type TextFamily, windowsOf } from './decoder.js';
import { expertMatrices, readExperts, withExperts } from './experts.js';
import { likeLlama } from './llama.js';
import { qwen3Parts } from './qwen.js';

/** The layers that have an MLP instead of experts, by number. */
function denseLayers(config: ConfigReader): ReadonlySet<number> {
  if (config.count('decoder_sparse_step', 1) !== 1) {
    const problem = 'is not 1: experts in every n-th layer only are not supported';
    throw config.unsupported(
      'decoder_sparse_step',
      problem,
      'Choose a model that has experts in all layers.',
    );
  }
  const layers = config.count('num_hidden_layers');
  const listed = config.get('mlp_only_layers') ?? [];
  const isLayer = (value: unknown) =>
    Number.isInteger(value) && (value as number) >= 0 && (value as number) < layers;
  if (Array.isArray(listed) && listed.every(isLayer)) return new Set(listed as number[]);
  throw config.invalid('mlp_only_layers', 'should be a list of numbers of layers');
}

/** Experts with the names that Qwen gives them, and their sizes, from defaults. */
function qwenExperts(config: ConfigReader, defaults: Omit<Experts, 'dense' | 'softmaxOver'>) {
  const dense = denseLayers(config);
  const { count, perToken } = readExperts(
    config,
    // transformers 5 writes the name that its experts have in all families.
    config.has('num_local_experts') ? 'num_local_experts' : 'num_experts',
    defaults,
  );
  config.knows('num_experts', 'router_aux_loss_coef', 'output_router_logits');
  const features = config.count('moe_intermediate_size', defaults.features);
  const shared = defaults.shared > 0 ? config.count('shared_expert_intermediate_size', defaults.shared) : 0;
  const normed = config.flag('norm_topk_prob', false);
  const layer = (names: LayerTensorNames, at: string): LayerTensorNames =>
    dense.has(Number(/\d+$/.exec(at)![0]))
      ? names
      : {
          ...names,
          router: `${at}.mlp.gate.weight`,
          ...expertMatrices({ count }, e => `${at}.mlp.experts.${e}`, ['gate_proj', 'up_proj', 'down_proj']),
          ...(shared > 0 && {
            sharedGate: `${at}.mlp.shared_expert.gate_proj.weight`,
            sharedUp: `${at}.mlp.shared_expert.up_proj.weight`,
            sharedDown: `${at}.mlp.shared_expert.down_proj.weight`,
            sharedRouter: `${at}.mlp.shared_expert_gate.weight`,
          }),
        };
  const softmaxOver = normed ? 'chosen' : 'all';
  const traits = ({ intermediate }: { readonly intermediate: number }) =>
    withExperts({ count, perToken, features, shared, dense: intermediate, softmaxOver }, dense.size > 0);
  return { layer, traits };
}

/** Qwen3 with experts. Source: transformers/models/qwen3_moe. */
export const qwen3Moe: TextFamily = (config, has) => {
  const { layer, traits } = qwenExperts(config, { count: 128, perToken: 8, features: 768, shared: 0 });
  const slides = config.knows('max_window_layers', 'sliding_window').flag('use_sliding_window', false);
  return likeLlama(config, has, {
    parts: qwen3Parts(config),
    layer,
    traits: dimensions => ({
      ...traits(dimensions),
      qkNorm: 'head',
      ...(slides && { attentionWindow: commonWindow(config, dimensions.layers, 4096) }),
    }),
  });
};

/**
 * Qwen2 with experts, one of which every token uses, times the sigmoid of a product with its hidden state. Source:
 * transformers/models/qwen2_moe.
 */
export const qwen2Moe: TextFamily = (config, has) => {
  const { layer, traits } = qwenExperts(config, { count: 60, perToken: 4, features: 1408, shared: 5632 });
  const slides = config.flag('use_sliding_window', false);
  const first = config.get('max_window_layers') === 0 ? 0 : config.count('max_window_layers', 28);
  return likeLlama(config, has, {
    parts: { qkvBias: config.flag('qkv_bias', true) },
    layer,
    traits: dimensions => {
      const kinds = layerKinds(config, dimensions.layers, at =>
        slides && at % 2 === 0 && at < first ? 'sliding_attention' : 'full_attention',
      );
      return {
        ...traits(dimensions),
        attentionWindow: windowsOf(config, slides ? kinds : kinds.map(() => 'full_attention'), 4096),
        configLists: { layer_types: kinds },
      };
    },
  });
};
