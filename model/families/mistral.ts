import type { Architecture } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import { commonWindow, type HasTensor } from './decoder.js';
import { likeLlama } from './llama.js';

/** Mistral: a Llama without biases, with an optional sliding window in all layers. Source: transformers/models/mistral. */
export const mistral = (config: ConfigReader, has: HasTensor): Architecture =>
  likeLlama(config, has, {
    traits: ({ layers }) => ({ attentionWindow: commonWindow(config, layers, 4096) }),
  });
