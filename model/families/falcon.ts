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
  requireEvenHeads,
  type StoredForms,
  storedForm,
  uncommonParts,
} from './decoder.js';
import { fusedHeads } from './fusedHeads.js';
import { readRope } from './rope.js';

const forms: StoredForms = [
  { prefix: 'transformer.', lmHead: 'lm_head.weight' },
  { prefix: '', lmHead: 'lm_head.weight' },
];

/**
 * Falcon: attention and MLP in parallel after one LayerNorm (7B) or one each (40B, 180B), or in sequence; a single
 * key/value head, one per group or one per query head, fused with the queries; no gate, exact GELU.
 * Source: transformers/models/falcon.
 */
export function falcon(config: ConfigReader, has: HasTensor): Architecture {
  if (config.flag('alibi', false)) {
    throw config.unsupported(
      'alibi',
      'is true: ALiBi position biases are not supported',
      'Choose a Falcon with rotary positions (7B, 11B, 40B, 180B).',
    );
  }
  config.knows('num_kv_heads', 'num_ln_in_parallel_attn');
  const { layers, hidden, heads } = readSize(config);
  const grouped = config.flag('new_decoder_architecture', false);
  const multiQuery = config.flag('multi_query', true);
  const ownHeads = grouped || !multiQuery;
  const kvHeads = ownHeads ? config.count('num_kv_heads', heads) : 1;
  if (!grouped && ownHeads && kvHeads !== heads) {
    throw config.invalid('num_kv_heads', `is ${kvHeads}, but each of the ${heads} heads has its own`);
  }
  const headDim = evenHeads(config, hidden, heads);
  checkHeads(config, { heads, kvHeads, headDim }, 'num_kv_heads');
  requireEvenHeads(config, headDim);
  const dimensions = {
    ...{ layers, hidden, heads, kvHeads, headDim },
    intermediate: config.count('ffn_hidden_size', 4 * hidden),
    ...readVocabulary(config),
  };
  const tiedEmbeddings = config.flag('tie_word_embeddings', true);
  const parallel = config.flag('parallel_attn', true);
  const norms = readNorms(config, grouped, parallel);
  const bias = config.flag('bias', false);
  const { prefix, lmHead } = storedForm(forms, 'word_embeddings.weight', has);
  const embedding = `${prefix}word_embeddings.weight`;
  const layerPrefix = `${prefix}h.`;
  return decoder(config, dimensions, {
    norm: { kind: 'layer', eps: config.positive('layer_norm_epsilon', 1e-5), offset: 0 },
    parallel: norms.parallel,
    tiedEmbeddings,
    activation: readActivation(config, 'activation', 'gelu'),
    ropes: [readRope(config, dimensions)],
    tensorNames: {
      embedding,
      finalNorm: `${prefix}ln_f.weight`,
      finalNormBias: `${prefix}ln_f.bias`,
      lmHead: tiedEmbeddings ? embedding : lmHead,
      ownHead: lmHead,
      layerPrefix,
      layers: Array.from({ length: layers }, (_, layer) =>
        layerNames(`${layerPrefix}${layer}`, dimensions, norms, bias),
      ),
    },
  });
}

interface Norms {
  readonly parallel: boolean;
  readonly attention: string;
  readonly mlp: string;
}

function readNorms(config: ConfigReader, grouped: boolean, parallel: boolean): Norms {
  if (!parallel) {
    if (grouped) {
      throw config.unsupported(
        'parallel_attn',
        'is false together with new_decoder_architecture: transformers then runs parallel branches with norms it does not store',
        'Choose one of the published Falcon models.',
      );
    }
    return { parallel, attention: 'input_layernorm', mlp: 'post_attention_layernorm' };
  }
  const count = config.count('num_ln_in_parallel_attn', grouped ? 2 : 1);
  if (count > 2 || (count === 2 && !grouped)) {
    throw config.unsupported(
      'num_ln_in_parallel_attn',
      `is ${count}; supported are 1, and 2 with new_decoder_architecture`,
      'Choose one of the published Falcon models.',
    );
  }
  return count === 2
    ? { parallel, attention: 'ln_attn', mlp: 'ln_mlp' }
    : { parallel, attention: 'input_layernorm', mlp: 'input_layernorm' };
}

function layerNames(
  at: string,
  { heads, kvHeads, headDim }: Dimensions,
  { attention, mlp }: Norms,
  bias: boolean,
): LayerTensorNames {
  const fused = fusedHeads(kvHeads, heads / kvHeads, headDim);
  const qkv = `${at}.self_attention.query_key_value`;
  const biasOf = (name: string) => (bias ? `${at}.${name}.bias` : null);
  return {
    inputNorm: `${at}.${attention}.weight`,
    inputNormBias: `${at}.${attention}.bias`,
    q: fused.q(`${qkv}.weight`),
    k: fused.k(`${qkv}.weight`),
    v: fused.v(`${qkv}.weight`),
    qBias: bias ? fused.q(`${qkv}.bias`) : null,
    kBias: bias ? fused.k(`${qkv}.bias`) : null,
    vBias: bias ? fused.v(`${qkv}.bias`) : null,
    qNorm: null,
    kNorm: null,
    o: `${at}.self_attention.dense.weight`,
    oBias: biasOf('self_attention.dense'),
    attentionOutNorm: null,
    mlpNorm: `${at}.${mlp}.weight`,
    mlpNormBias: `${at}.${mlp}.bias`,
    ...uncommonParts,
    gate: null,
    up: `${at}.mlp.dense_h_to_4h.weight`,
    down: `${at}.mlp.dense_4h_to_h.weight`,
    gateBias: null,
    upBias: biasOf('mlp.dense_h_to_4h'),
    downBias: biasOf('mlp.dense_4h_to_h'),
    alphaP: null,
    alphaN: null,
    mlpOutNorm: null,
  };
}
