import type { Architecture } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import { type Dimensions, type FamilyTraits, type HasTensor, layerKinds, windowsOf } from './decoder.js';
import { likeLlama } from './llama.js';

/** Qwen2 and 2.5: a Llama with biases on queries, keys and values. Source: transformers/models/qwen2. */
export const qwen2 = (config: ConfigReader, has: HasTensor): Architecture =>
  likeLlama(config, has, { parts: { qkvBias: true }, traits: slidingLayers(config) });

/** Qwen3: a Llama with a norm per query and key head. Source: transformers/models/qwen3. */
export function qwen3(config: ConfigReader, has: HasTensor): Architecture {
  const bias = config.flag('attention_bias', false);
  const windows = slidingLayers(config);
  return likeLlama(config, has, {
    parts: { qkvBias: bias, outBias: bias, qkNorm: true },
    headDim: 128,
    traits: dimensions => ({ ...windows(dimensions), qkNorm: 'head' }),
  });
}

/** With use_sliding_window, layers from max_window_layers on slide, unless layer_types says otherwise. */
const slidingLayers =
  (config: ConfigReader) =>
  ({ layers }: Dimensions): Partial<FamilyTraits> => {
    const may = config.flag('use_sliding_window', false);
    const window = config.has('sliding_window') ? config.get('sliding_window') : 4096;
    const slides = may && window !== undefined;
    const first = config.get('max_window_layers') === 0 ? 0 : config.count('max_window_layers', 28);
    const kinds = layerKinds(config, layers, layer =>
      slides && layer >= first ? 'sliding_attention' : 'full_attention',
    );
    if (!slides && kinds.includes('sliding_attention')) {
      throw config.invalid('layer_types', 'has sliding layers, but no sliding window is set');
    }
    return { attentionWindow: windowsOf(config, kinds, 4096), configLists: { layer_types: kinds } };
  };
