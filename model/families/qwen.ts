import type { ConfigReader } from './configReader.js';
import {
  type Dimensions,
  type FamilyTraits,
  type LlamaParts,
  layerKinds,
  type TextFamily,
  windowsOf,
} from './decoder.js';
import { likeLlama } from './llama.js';

/** How vLLM attends in prompts of hundreds of thousands of tokens; transformers does not read it. */
const longPrompts = 'dual_chunk_attention_config';

/** Qwen2 and 2.5: a Llama with biases on queries, keys and values. Source: transformers/models/qwen2. */
export const qwen2: TextFamily = (config, has) =>
  likeLlama(config.knows(longPrompts), has, {
    parts: { qkvBias: true },
    traits: slidingLayers(config, 28),
  });

/**
 * The language model of Qwen2.5-VL: a Qwen2. Its RoPE shares the frequencies among time, height and width (mrope), which
 * are the same for text. Source: transformers/models/qwen2_5_vl.
 */
export const qwen2_5VlText: TextFamily = (config, has, forms) =>
  likeLlama(config, has, {
    forms,
    theta: 1_000_000,
    parts: { qkvBias: true },
    traits: slidingLayers(config, 80),
  });

/** Qwen3: a Llama with a norm per query and key head. Source: transformers/models/qwen3. */
export const qwen3: TextFamily = (config, has) => {
  const windows = slidingLayers(config, 28);
  return likeLlama(config.knows(longPrompts), has, {
    parts: qwen3Parts(config),
    headDim: 128,
    traits: dimensions => ({ ...windows(dimensions), qkNorm: 'head' }),
  });
};

/** The language model of Qwen3-VL: a Qwen3 without sliding layers, with mrope as Qwen2.5-VL. Source: transformers/models/qwen3_vl. */
export const qwen3VlText: TextFamily = (config, has, forms) =>
  likeLlama(config, has, {
    forms,
    parts: qwen3Parts(config),
    headDim: 128,
    theta: 500_000,
    traits: () => ({ qkNorm: 'head' }),
  });

/** Parts of a Qwen3: biases of all projections by `attention_bias`. */
export function qwen3Parts(config: ConfigReader): LlamaParts {
  const bias = config.flag('attention_bias', false);
  return { qkvBias: bias, outBias: bias, qkNorm: true };
}

/** With use_sliding_window, layers from max_window_layers on slide, unless layer_types says otherwise. */
const slidingLayers =
  (config: ConfigReader, defaultFirst: number) =>
  ({ layers }: Dimensions): Partial<FamilyTraits> => {
    const may = config.flag('use_sliding_window', false);
    const window = config.has('sliding_window') ? config.get('sliding_window') : 4096;
    const slides = may && window !== undefined;
    const first = config.get('max_window_layers') === 0 ? 0 : config.count('max_window_layers', defaultFirst);
    const kinds = layerKinds(config, layers, layer =>
      slides && layer >= first ? 'sliding_attention' : 'full_attention',
    );
    if (!slides && kinds.includes('sliding_attention')) {
      throw config.invalid('layer_types', 'has sliding layers, but no sliding window is set');
    }
    return { attentionWindow: windowsOf(config, kinds, 4096), configLists: { layer_types: kinds } };
  };
