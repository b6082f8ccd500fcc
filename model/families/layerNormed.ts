import type { LayerTensorNames } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import { commonWindow, type FamilyTraits, type TextFamily } from './decoder.js';
import { likeLlama } from './llama.js';
import { readRope } from './rope.js';

/** LayerNorm with biases, in layers with Llama's names of norms. */
const withNormBiases = (names: LayerTensorNames, at: string): LayerTensorNames => ({
  ...names,
  inputNormBias: `${at}.input_layernorm.bias`,
  mlpNormBias: `${at}.post_attention_layernorm.bias`,
});

const layerNorm = (config: ConfigReader, field: string): Pick<FamilyTraits, 'norm'> => ({
  norm: { kind: 'layer', eps: config.positive(field, 1e-5), offset: 0 },
});

/**
 * StarCoder 2: LayerNorm and biases everywhere, no gate, an optional sliding window in all layers.
 * Source: transformers/models/starcoder2.
 */
export const starcoder2: TextFamily = (config, has) => {
  const bias = config.flag('use_bias', true);
  const biasOf = (name: string) => (bias ? `${name}.bias` : null);
  return likeLlama(config, has, {
    tied: true,
    activation: 'gelu_pytorch_tanh',
    finalNormBias: true,
    parts: { qkvBias: bias, outBias: bias },
    layer: (names, at) => ({
      ...withNormBiases(names, at),
      gate: null,
      up: `${at}.mlp.c_fc.weight`,
      upBias: biasOf(`${at}.mlp.c_fc`),
      down: `${at}.mlp.c_proj.weight`,
      downBias: biasOf(`${at}.mlp.c_proj`),
    }),
    traits: ({ layers }) => ({
      ...layerNorm(config, 'norm_epsilon'),
      attentionWindow: commonWindow(config, layers, null),
    }),
  });
};

function refuseHeadNorms(config: ConfigReader, fix: string): void {
  if (!config.flag('qk_layernorm', false)) return;
  const problem = 'is true: LayerNorms of single query and key heads are not supported';
  throw config.unsupported('qk_layernorm', problem, fix);
}

/**
 * StableLM 2 and the like: LayerNorm, a quarter of each head rotates, branches one after the other or side by side.
 * Source: transformers/models/stablelm.
 */
export const stablelm: TextFamily = (config, has) => {
  refuseHeadNorms(config, 'Choose a StableLM without them (StableLM 3B, StableLM 2 1.6B).');
  const parallel = config.flag('use_parallel_residual', false);
  return likeLlama(config, has, {
    finalNormBias: true,
    parts: { qkvBias: config.flag('use_qkv_bias', false) },
    layer: (names, at) => {
      const normed = withNormBiases(names, at);
      return parallel ? { ...normed, mlpNorm: normed.inputNorm, mlpNormBias: normed.inputNormBias } : normed;
    },
    ropes: dimensions => [
      readRope(config, { ...dimensions, partial: config.positive('partial_rotary_factor', 0.25) }),
    ],
    traits: () => ({ ...layerNorm(config, 'layer_norm_eps'), parallel }),
  });
};

/**
 * Phi 1, 1.5 and 2: branches side by side after one LayerNorm, biases everywhere, also of the head; half of each head
 * rotates; no gate. Source: transformers/models/phi.
 */
export const phi: TextFamily = (config, has) => {
  refuseHeadNorms(config, 'Choose a Phi without them (Phi 1, 1.5, 2).');
  return likeLlama(config, has, {
    activation: 'gelu_new',
    finalNorm: 'final_layernorm',
    finalNormBias: true,
    headBias: true,
    parts: { qkvBias: true },
    layer: (names, at) => ({
      ...withNormBiases(names, at),
      o: `${at}.self_attn.dense.weight`,
      oBias: `${at}.self_attn.dense.bias`,
      mlpNorm: names.inputNorm,
      mlpNormBias: `${at}.input_layernorm.bias`,
      gate: null,
      up: `${at}.mlp.fc1.weight`,
      upBias: `${at}.mlp.fc1.bias`,
      down: `${at}.mlp.fc2.weight`,
      downBias: `${at}.mlp.fc2.bias`,
    }),
    ropes: dimensions => [
      readRope(config, { ...dimensions, partial: config.positive('partial_rotary_factor', 0.5) }),
    ],
    traits: () => ({ ...layerNorm(config, 'layer_norm_eps'), parallel: true }),
  });
};
