import type { Architecture } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import { type HasTensor, layerKinds, windowsOf } from './decoder.js';
import { likeLlama, llamaBiases } from './llama.js';

/**
 * SmolLM3: a Llama with some layers without positions (0 in no_rope_layers; by default every fourth), which may have a
 * sliding window. Source: transformers/models/smollm3.
 */
export function smollm3(config: ConfigReader, has: HasTensor): Architecture {
  return likeLlama(config, has, {
    parts: llamaBiases(config),
    theta: 2_000_000,
    tied: true,
    traits: ({ layers }) => {
      const rotates = rotatingLayers(config, layers);
      const slides = config.flag('use_sliding_window', false) && config.get('sliding_window') !== undefined;
      const kinds = layerKinds(config, layers, layer =>
        slides && !rotates[layer] ? 'sliding_attention' : 'full_attention',
      );
      return {
        layerRope: rotates.map(rotating => (rotating ? 0 : null)),
        attentionWindow: windowsOf(config, kinds),
        configLists: { no_rope_layers: rotates.map(Number), layer_types: kinds },
      };
    },
  });
}

function rotatingLayers(config: ConfigReader, layers: number): boolean[] {
  const stated = config.knows('no_rope_layer_interval').get('no_rope_layers');
  if (stated === undefined) {
    const interval = config.count('no_rope_layer_interval', 4);
    return Array.from({ length: layers }, (_, layer) => (layer + 1) % interval !== 0);
  }
  const isFlag = (value: unknown) => value === 0 || value === 1 || typeof value === 'boolean';
  if (!Array.isArray(stated) || stated.length !== layers || !stated.every(isFlag)) {
    throw config.invalid('no_rope_layers', `should be a list of 0 and 1 for each of the ${layers} layers`);
  }
  return stated.map(Boolean);
}
