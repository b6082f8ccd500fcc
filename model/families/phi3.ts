import type { Architecture, LayerTensorNames, TensorPart } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import {
  commonWindow,
  type Dimensions,
  decoder,
  type HasTensor,
  llamaForms,
  llamaLayer,
  namesInForm,
  readActivation,
  readDimensions,
  storedForm,
} from './decoder.js';
import { fusedGate } from './fusedHeads.js';
import { readRope } from './rope.js';

/**
 * Phi-3, 3.5 and 4: a Llama with fused queries, keys and values and fused gate and up; longrope (formerly su) on parts of
 * heads; a sliding window. Source: transformers/models/phi3.
 */
export function phi3(config: ConfigReader, has: HasTensor): Architecture {
  const dimensions = readDimensions(config);
  const tiedEmbeddings = config.flag('tie_word_embeddings', false);
  const form = storedForm(llamaForms, 'embed_tokens.weight', has);
  const rope = readRope(config, {
    ...dimensions,
    partial: config.positive('partial_rotary_factor', 1),
    originalContext: config.count('original_max_position_embeddings', 4096),
  });
  if (rope.kind !== 'default' && rope.kind !== 'longrope') {
    throw config.invalid('rope_scaling', `is ${rope.kind}; models of this family have longrope or none`);
  }
  return decoder(config, dimensions, {
    tiedEmbeddings,
    activation: readActivation(config, 'hidden_act', 'silu'),
    ropes: [rope],
    attentionWindow: commonWindow(config, dimensions.layers, null),
    tensorNames: namesInForm(form, { ...dimensions, tiedEmbeddings }, at => layerNames(at, dimensions)),
  });
}

function layerNames(at: string, { heads, kvHeads, headDim, intermediate }: Dimensions): LayerTensorNames {
  const rows = (name: string, first: number, count: number): TensorPart => ({
    name: `${at}.${name}.weight`,
    first,
    count,
    stride: count,
    runs: 1,
  });
  const [queries, keys] = [heads * headDim, kvHeads * headDim];
  return {
    ...llamaLayer(at, {}),
    q: rows('self_attn.qkv_proj', 0, queries),
    k: rows('self_attn.qkv_proj', queries, keys),
    v: rows('self_attn.qkv_proj', queries + keys, keys),
    ...fusedGate(`${at}.mlp.gate_up_proj.weight`, intermediate),
  };
}
