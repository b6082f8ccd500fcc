import type { LayerTensorNames } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import type { TextFamily } from './decoder.js';
import { readKernel, rowParts } from './linearLayers.js';
import { likeLlama } from './llama.js';

/** Fields of published files that transformers does not read: sizes stated twice, and how weights were initialised. */
const unused = [
  ...['block_dim', 'block_norm_eps', 'block_use_swiglu', 'block_mlp_init_scale', 'block_out_init_scale'],
  ...[
    'block_use_xavier_init',
    'conv_dim',
    'conv_dim_out',
    'conv_use_xavier_init',
    'num_heads',
    'use_pos_enc',
  ],
];

/**
 * LFM2: gated short convolutions and, in some layers, attention, whose queries and keys are normalised head by head.
 * Source: transformers/models/lfm2.
 */
export const lfm2: TextFamily = (config, has) => {
  const sizes = renamed(
    renamed(config, 'block_ff_dim', 'intermediate_size'),
    'tie_embedding',
    'tie_word_embeddings',
  );
  const bias = config.flag('conv_bias', false);
  const kernel = readKernel(config, 'conv_L_cache', 3);
  const kinds = layerTypes(config, config.count('num_hidden_layers'));
  return likeLlama(sizes.knows(...unused), has, {
    tied: true,
    theta: 1_000_000,
    finalNorm: 'embedding_norm',
    layer: (names, at, { hidden }, layer) => ({
      ...names,
      ...(kinds[layer] === 'conv' ? convolution(`${at}.conv`, hidden, bias) : attention(`${at}.self_attn`)),
      inputNorm: `${at}.operator_norm.weight`,
      mlpNorm: `${at}.ffn_norm.weight`,
      gate: `${at}.feed_forward.w1.weight`,
      up: `${at}.feed_forward.w3.weight`,
      down: `${at}.feed_forward.w2.weight`,
    }),
    traits: ({ intermediate }) => ({
      norm: { kind: 'rms', eps: config.positive('norm_eps', 1e-5), offset: 0 },
      activation: 'silu',
      intermediate: adjusted(config, intermediate),
      qkNorm: 'head',
      linear: kinds.map(kind => (kind === 'conv' ? { kind: 'short convolution', kernel } : null)),
      layerRope: kinds.map(kind => (kind === 'conv' ? null : 0)),
      configLists: { layer_types: kinds },
    }),
  });
};

/** The config in which a field stands for another that it overrides. */
const renamed = (config: ConfigReader, from: string, to: string): ConfigReader =>
  config.get(from) === undefined ? config : config.with({ [to]: config.get(from) });

const attention = (at: string): Partial<LayerTensorNames> => ({
  qNorm: `${at}.q_layernorm.weight`,
  kNorm: `${at}.k_layernorm.weight`,
  o: `${at}.out_proj.weight`,
});

function convolution(at: string, hidden: number, bias: boolean): Partial<LayerTensorNames> {
  // The published names of these parts are B, C and x.
  const { k, q, v } = rowParts({ k: hidden, q: hidden, v: hidden });
  const [weight, added] = [`${at}.in_proj.weight`, `${at}.in_proj.bias`];
  return {
    ...{ q: q(weight), k: k(weight), v: v(weight) },
    ...(bias && { qBias: q(added), kBias: k(added), vBias: v(added), oBias: `${at}.out_proj.bias` }),
    conv: `${at}.conv.weight`,
    ...(bias && { convBias: `${at}.conv.bias` }),
    o: `${at}.out_proj.weight`,
  };
}

function layerTypes(config: ConfigReader, layers: number): ('full_attention' | 'conv')[] {
  const stated = config.choices('layer_types', layers, ['full_attention', 'conv']);
  const attending = config.get('full_attn_idxs');
  if (stated) return stated;
  if (attending !== undefined && !(Array.isArray(attending) && attending.every(Number.isInteger))) {
    throw config.invalid('full_attn_idxs', 'should be a list of numbers of layers');
  }
  const attends = (layer: number) => !Array.isArray(attending) || attending.includes(layer);
  return Array.from({ length: layers }, (_, layer) => (attends(layer) ? 'full_attention' : 'conv'));
}

/** MLP features: two thirds of what is stated, rounded up. */
function adjusted(config: ConfigReader, stated: number): number {
  const multiple = config.count('block_multiple_of', 256);
  const multiplier = config.positive('block_ffn_dim_multiplier', 1);
  if (!config.flag('block_auto_adjust_ff_dim', true)) return stated;
  const part = Math.trunc(multiplier * Math.trunc((2 * stated) / 3));
  return multiple * Math.ceil(part / multiple);
}
