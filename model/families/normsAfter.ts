import type { LayerTensorNames } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import { layerKinds, type TextFamily, windowsOf } from './decoder.js';
import { likeLlama } from './llama.js';
import { readRope } from './rope.js';

function olmoParts(config: ConfigReader) {
  const bias = config.flag('attention_bias', false);
  return { qkvBias: bias, outBias: bias, qkNorm: true };
}

/**
 * OLMo 2: a Llama with norms after attention and MLP instead of before, and queries and keys normalised over all heads.
 * Source: transformers/models/olmo2.
 */
export const olmo2: TextFamily = (config, has) =>
  likeLlama(config, has, {
    parts: olmoParts(config),
    layer: normsAfter,
    traits: () => ({ qkNorm: 'projection' }),
  });

const THETA = 500_000;

/**
 * OLMo 3: an OLMo 2 of which three of four layers slide. Scaled frequencies (yarn) hold for the full layers only, as the
 * weights were trained. Source: transformers/models/olmo3.
 */
export const olmo3: TextFamily = (config, has) => {
  const old = config.object('rope_scaling');
  const parameters = config.object('rope_parameters');
  const full = old.isEmpty ? parameters.object('full_attention') : old;
  return likeLlama(config, has, {
    parts: olmoParts(config),
    layer: normsAfter,
    ropes: dimensions => [
      readRope(config, { ...dimensions, theta: config.positive('rope_theta', THETA), scaling: full }),
      readRope(config, { ...dimensions, theta: THETA, scaling: parameters.object('sliding_attention') }),
    ],
    traits: ({ layers }) => {
      const kinds = layerKinds(config, layers, layer =>
        (layer + 1) % 4 === 0 ? 'full_attention' : 'sliding_attention',
      );
      return {
        qkNorm: 'projection',
        layerRope: kinds.map(kind => (kind === 'sliding_attention' ? 1 : 0)),
        attentionWindow: windowsOf(config, kinds, 4096),
        configLists: { layer_types: kinds },
      };
    },
  });
};

/**
 * EXAONE 4: norms after attention and MLP only, a norm per query and key head; of models with a sliding window only the
 * sliding layers rotate. Source: transformers/models/exaone4.
 */
export const exaone4: TextFamily = (config, has) =>
  likeLlama(config, has, {
    parts: { qkNorm: true },
    layer: normsAfter,
    traits: ({ layers }) => {
      const slides = !config.has('sliding_window') || config.get('sliding_window') !== undefined;
      const kinds = layerKinds(config, layers, layer =>
        slides && (layer + 1) % config.count('sliding_window_pattern', 4) !== 0
          ? 'sliding_attention'
          : 'full_attention',
      );
      return {
        qkNorm: 'head',
        layerRope: kinds.map(kind => (!slides || kind === 'sliding_attention' ? 0 : null)),
        attentionWindow: windowsOf(config, kinds, 4096),
        configLists: { layer_types: kinds },
      };
    },
  });

/** A layer whose norms come after attention and MLP only. */
const normsAfter = (names: LayerTensorNames, at: string): LayerTensorNames => ({
  ...names,
  inputNorm: null,
  attentionOutNorm: `${at}.post_attention_layernorm.weight`,
  mlpNorm: null,
  mlpOutNorm: `${at}.post_feedforward_layernorm.weight`,
});
