import type { Architecture, LayerTensorNames } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import {
  checkHeads,
  type Dimensions,
  decoder,
  evenHeads,
  type HasTensor,
  readActivation,
  readSize,
  readVocabulary,
  type StoredForms,
  storedForm,
  uncommonParts,
} from './decoder.js';
import { fusedHeads } from './fusedHeads.js';
import { readRope } from './rope.js';

const forms: StoredForms = [
  { prefix: 'gpt_neox.', lmHead: 'embed_out.weight' },
  { prefix: '', lmHead: 'embed_out.weight' },
];

/**
 * GPT-NeoX and Pythia: attention and MLP in parallel (or in sequence), each after its own LayerNorm; a quarter of each head
 * rotates; queries, keys and values are fused head by head; no gate. Source: transformers/models/gpt_neox.
 */
export function gptNeox(config: ConfigReader, has: HasTensor): Architecture {
  const { layers, hidden, heads } = readSize(config);
  const headDim = evenHeads(config, hidden, heads);
  checkHeads(config, { heads, kvHeads: heads, headDim }, 'num_attention_heads');
  const dimensions = {
    ...{ layers, hidden, heads, kvHeads: heads, headDim },
    intermediate: config.count('intermediate_size'),
    ...readVocabulary(config),
  };
  const tiedEmbeddings = config.flag('tie_word_embeddings', false);
  const bias = config.flag('attention_bias', true);
  const { prefix, lmHead } = storedForm(forms, 'embed_in.weight', has);
  const embedding = `${prefix}embed_in.weight`;
  const layerPrefix = `${prefix}layers.`;
  const head = has?.('lm_head.weight') ? 'lm_head.weight' : lmHead;
  return decoder(config, dimensions, {
    norm: { kind: 'layer', eps: config.positive('layer_norm_eps', 1e-5), offset: 0 },
    parallel: config.flag('use_parallel_residual', true),
    tiedEmbeddings,
    activation: readActivation(config, 'hidden_act', 'gelu'),
    ropes: [
      readRope(config, {
        ...dimensions,
        theta: config.positive('rotary_emb_base', 10_000),
        partial: config.positive('rotary_pct', 0.25),
      }),
    ],
    tensorNames: {
      embedding,
      finalNorm: `${prefix}final_layer_norm.weight`,
      finalNormBias: `${prefix}final_layer_norm.bias`,
      lmHead: tiedEmbeddings ? embedding : head,
      ownHead: head,
      layerPrefix,
      layers: Array.from({ length: layers }, (_, layer) =>
        layerNames(`${layerPrefix}${layer}`, dimensions, bias),
      ),
    },
  });
}

function layerNames(at: string, { heads, headDim }: Dimensions, bias: boolean): LayerTensorNames {
  const fused = fusedHeads(heads, 1, headDim);
  const qkv = `${at}.attention.query_key_value`;
  return {
    inputNorm: `${at}.input_layernorm.weight`,
    inputNormBias: `${at}.input_layernorm.bias`,
    q: fused.q(`${qkv}.weight`),
    k: fused.k(`${qkv}.weight`),
    v: fused.v(`${qkv}.weight`),
    qBias: bias ? fused.q(`${qkv}.bias`) : null,
    kBias: bias ? fused.k(`${qkv}.bias`) : null,
    vBias: bias ? fused.v(`${qkv}.bias`) : null,
    qNorm: null,
    kNorm: null,
    o: `${at}.attention.dense.weight`,
    oBias: bias ? `${at}.attention.dense.bias` : null,
    attentionOutNorm: null,
    mlpNorm: `${at}.post_attention_layernorm.weight`,
    mlpNormBias: `${at}.post_attention_layernorm.bias`,
    ...uncommonParts,
    gate: null,
    up: `${at}.mlp.dense_h_to_4h.weight`,
    down: `${at}.mlp.dense_4h_to_h.weight`,
    gateBias: null,
    upBias: `${at}.mlp.dense_h_to_4h.bias`,
    downBias: `${at}.mlp.dense_4h_to_h.bias`,
    alphaP: null,
    alphaN: null,
    mlpOutNorm: null,
  };
}
