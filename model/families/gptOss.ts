import type { LayerTensorNames, TensorStack } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import { layerKinds, type TextFamily, windowsOf } from './decoder.js';
import { expertMatrices, readExperts, withExperts } from './experts.js';
import { likeLlama, llamaBiases } from './llama.js';

/** The slope of the sigmoid by which gates are multiplied: that of quick_gelu. */
const ALPHA = 1.702;

/** What transformers takes where config.json says nothing. */
const rope = {
  rope_parameters: {
    ...{ rope_type: 'yarn', factor: 32, beta_fast: 32, beta_slow: 1, truncate: false },
    original_max_position_embeddings: 4096,
  },
};

/** How far gate and up are clamped. */
function readLimit(config: ConfigReader): number {
  const alpha = config.positive('swiglu_alpha', ALPHA);
  if (alpha !== ALPHA) {
    const problem = `is ${alpha}; only ${ALPHA} is supported`;
    throw config.unsupported('swiglu_alpha', problem, 'Choose one of the published models.');
  }
  return config.positive('swiglu_limit', 7);
}

const matrices = ['gate_proj', 'up_proj', 'down_proj'] as const;

/** Experts with biases and a router with one; a sink for each head. */
function layerOf(names: LayerTensorNames, at: string, count: number): LayerTensorNames {
  const expert = (e: number) => `${at}.mlp.experts.${e}`;
  const biases = (name: string): TensorStack => ({
    names: Array.from({ length: count }, (_, e) => `${expert(e)}.${name}.bias`),
  });
  const [gate, up, down] = matrices;
  return {
    ...names,
    sinkBias: `${at}.self_attn.sinks`,
    router: `${at}.mlp.router.weight`,
    routerBias: `${at}.mlp.router.bias`,
    ...expertMatrices({ count }, expert, matrices),
    ...{ gateBias: biases(gate), upBias: biases(up), downBias: biases(down) },
  };
}

/**
 * gpt-oss: experts whose gates are clamped, biases everywhere, and a sink in each head. Its matrices have the names that
 * checkpoint/fusedExperts.ts gives them. Source: transformers/models/gpt_oss.
 */
export const gptOss: TextFamily = (config, has) => {
  const scaled = ['rope_parameters', 'rope_scaling'].some(field => config.get(field) !== undefined);
  const whole = scaled ? config : config.withDefaults(rope);
  whole.knows('experts_per_token', 'initial_context_length', 'router_aux_loss_coef', 'output_router_logits');
  const counts = readExperts(whole, 'num_local_experts', { count: 128, perToken: 4 });
  const limit = readLimit(whole);
  const { mlpBias: _, ...parts } = llamaBiases(whole.withDefaults({ attention_bias: true }));
  return likeLlama(whole, has, {
    parts,
    theta: 150_000,
    headDim: 64,
    layer: (names, at) => layerOf(names, at, counts.count),
    traits: ({ layers, intermediate }) => {
      const kinds = layerKinds(whole, layers, at => (at % 2 === 0 ? 'sliding_attention' : 'full_attention'));
      const sizes = { features: intermediate, shared: 0, dense: intermediate };
      return {
        ...withExperts({ ...counts, ...sizes, softmaxOver: 'chosen', limit, fused: true }, false),
        activation: 'quick_gelu',
        attentionWindow: windowsOf(whole, kinds, 128),
        configLists: { layer_types: kinds },
      };
    },
  });
};
