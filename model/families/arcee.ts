import type { TextFamily } from './decoder.js';
import { likeLlama, llamaBiases } from './llama.js';

/** Arcee's AFM: a Llama without gate; its activation is the square of relu. Source: transformers/models/arcee. */
export const arcee: TextFamily = (config, has) =>
  likeLlama(config, has, {
    activation: 'relu2',
    parts: llamaBiases(config),
    layer: names => ({ ...names, gate: null, gateBias: null }),
  });
