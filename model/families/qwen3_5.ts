import type { LayerTensorNames, TensorPart } from '../architecture/architecture.js';
import type { LinearMixer } from '../architecture/mixer.js';
import type { ConfigReader } from './configReader.js';
import type { Dimensions, TextFamily } from './decoder.js';
import { readKernel, rowParts } from './linearLayers.js';
import { likeLlama } from './llama.js';
import { readRope } from './rope.js';

type DeltaRule = Extract<LinearMixer, { kind: 'gated delta rule' }>;

/**
 * The language model of Qwen3.5: three of four layers have gated delta rules instead of attention; attention has a gate on
 * its output, and a quarter of each head rotates (mrope, plain for text). Layers that predict further tokens (MTP) are left
 * as they are. Source: transformers/models/qwen3_5.
 */
export const qwen3_5Text: TextFamily = (config, has, forms) => {
  // Published files state what all models of the family have, and their MTP layers.
  config.knows(
    'attn_output_gate',
    'mamba_ssm_dtype',
    'mtp_num_hidden_layers',
    'mtp_use_dedicated_embeddings',
  );
  const interval = config.count('full_attention_interval', 4);
  const layers = config.count('num_hidden_layers');
  const kinds =
    config.choices('layer_types', layers, ['linear_attention', 'full_attention']) ??
    Array.from({ length: layers }, (_, layer) =>
      (layer + 1) % interval === 0 ? 'full_attention' : 'linear_attention',
    );
  const bias = config.flag('attention_bias', false);
  const rule = deltaRule(config);
  if (config.text('hidden_act', 'silu') !== 'silu') {
    const problem = `is ${JSON.stringify(config.get('hidden_act'))}; convolutions are followed by silu here`;
    throw config.unsupported('hidden_act', problem, 'Choose a published Qwen3.5.');
  }
  return likeLlama(config, has, {
    forms,
    headDim: 256,
    parts: { qkvBias: bias, outBias: bias, qkNorm: true },
    layer: (names, at, dimensions, layer) =>
      kinds[layer] === 'full_attention'
        ? gatedAttention(names, dimensions)
        : { ...names, ...linearAttention(`${at}.linear_attn`, rule) },
    ropes: dimensions => [
      readRope(config, { ...dimensions, partial: config.positive('partial_rotary_factor', 0.25) }),
    ],
    traits: () => ({
      norm: { kind: 'rms', eps: config.positive('rms_norm_eps', 1e-6), offset: 1 },
      qkNorm: 'head',
      linear: kinds.map(kind => (kind === 'full_attention' ? null : rule)),
      layerRope: kinds.map(kind => (kind === 'full_attention' ? 0 : null)),
      configLists: { layer_types: kinds },
    }),
  });
};

function deltaRule(config: ConfigReader): DeltaRule {
  const keyHeads = config.count('linear_num_key_heads', 16);
  const valueHeads = config.count('linear_num_value_heads', 32);
  const keyDim = config.count('linear_key_head_dim', 128);
  if (valueHeads % keyHeads !== 0) {
    throw config.invalid(
      'linear_num_key_heads',
      `${keyHeads} does not divide linear_num_value_heads ${valueHeads}`,
    );
  }
  if (keyDim > 256) {
    const problem = `is ${keyDim}; at most 256 columns are supported`;
    throw config.unsupported('linear_key_head_dim', problem, 'Choose a model with smaller heads.');
  }
  return {
    kind: 'gated delta rule',
    kernel: readKernel(config, 'linear_conv_kernel_dim', 4),
    ...{ keyHeads, valueHeads, keyDim },
    valueDim: config.count('linear_value_head_dim', 128),
  };
}

/** Each head's rows of q_proj are those of its query, then those of its gate. */
function gatedAttention(names: LayerTensorNames, { heads, headDim }: Dimensions): LayerTensorNames {
  const part = (name: string, first: number): TensorPart => ({
    ...{ name, first, count: headDim, stride: 2 * headDim, runs: heads },
  });
  const { q, qBias } = names as { q: string; qBias: string | null };
  return {
    ...names,
    q: part(q, 0),
    outGate: part(q, headDim),
    ...(qBias !== null && { qBias: part(qBias, 0), outGateBias: part(qBias, headDim) }),
  };
}

function linearAttention(
  at: string,
  { keyHeads, valueHeads, keyDim, valueDim }: DeltaRule,
): Partial<LayerTensorNames> {
  const keys = keyHeads * keyDim;
  const { q, k, v } = rowParts({ q: keys, k: keys, v: valueHeads * valueDim });
  const [projection, conv] = [`${at}.in_proj_qkv.weight`, `${at}.conv1d.weight`];
  return {
    ...{ q: q(projection), k: k(projection), v: v(projection) },
    ...{ qBias: null, kBias: null, vBias: null, oBias: null, qNorm: null, kNorm: null },
    ...{ convQ: q(conv), convK: k(conv), convV: v(conv) },
    outGate: `${at}.in_proj_z.weight`,
    decay: `${at}.in_proj_a.weight`,
    decayBias: `${at}.dt_bias`,
    decayRate: `${at}.A_log`,
    beta: `${at}.in_proj_b.weight`,
    mixerNorm: `${at}.norm.weight`,
    o: `${at}.out_proj.weight`,
  };
}
