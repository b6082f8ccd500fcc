import type { Architecture, PoolingHead } from '../architecture/architecture.js';
import { baseSize, clipLayer, visionPrefix } from './clip.js';
import { type ConfigReader, statedDtype } from './configReader.js';
import { type HasTensor, readActivation } from './decoder.js';
import { plainLayer, readPatches, visionEncoder } from './visionEncoder.js';

/** SigLIP and SigLIP 2 with both towers: reads the vision encoder; the text tower stays unchanged. */
export function siglip(config: ConfigReader, has?: HasTensor): Architecture {
  return build(config, config.object('vision_config'), ['vision_config'], has);
}

/** SigLIP's vision encoder alone. */
export function siglipVision(config: ConfigReader, has?: HasTensor): Architecture {
  return build(config, config, [], has);
}

/**
 * Biases everywhere, no gate, no class token. A head pools the tokens by attention; classifiers, which have none, take their
 * mean. Source: transformers/models/siglip, Zhai et al. (arXiv:2303.15343), Tschannen et al. (arXiv:2502.14786).
 */
function build(
  outer: ConfigReader,
  stated: ConfigReader,
  configPath: readonly string[],
  has: HasTensor,
): Architecture {
  const config = stated.withDefaults(baseSize);
  const { patches, ...image } = readPatches(config, 16);
  const prefix = visionPrefix(has);
  const hidden = config.count('hidden_size');
  return visionEncoder(config, {
    family: outer.text('model_type'),
    configPath,
    dtype: statedDtype(outer),
    intermediate: config.count('intermediate_size', 3072),
    activation: readActivation(config, 'hidden_act', 'gelu_pytorch_tanh'),
    eps: config.positive('layer_norm_eps', 1e-6),
    tokens: patches,
    vision: {
      ...image,
      pooling: config.flag('vision_use_head', true) ? poolingHead(`${prefix}head.`, hidden) : 'mean',
      projection: null,
      batched: false,
      tensorNames: {
        classToken: null,
        positions: `${prefix}embeddings.position_embedding.weight`,
        patchBias: `${prefix}embeddings.patch_embedding.bias`,
        norm: null,
        normBias: null,
      },
    },
    embedding: `${prefix}embeddings.patch_embedding.weight`,
    finalNorm: `${prefix}post_layernorm`,
    ownHead: `${prefix}head.weight`,
    layerPrefix: `${prefix}encoder.layers.`,
    layer: clipLayer,
  });
}

/** torch.nn.MultiheadAttention stores q, k and v as one. */
function poolingHead(at: string, hidden: number): PoolingHead {
  const part = (name: string, index: number) => ({
    name: `${at}attention.${name}`,
    first: index * hidden,
    count: hidden,
    stride: hidden,
    runs: 1,
  });
  const names = plainLayer(at, {
    inputNorm: null,
    q: 'attention',
    k: 'attention',
    v: 'attention',
    o: 'attention.out_proj',
    mlpNorm: 'layernorm',
    up: 'mlp.fc1',
    down: 'mlp.fc2',
  });
  return {
    probe: `${at}probe`,
    layer: {
      ...names,
      q: part('in_proj_weight', 0),
      k: part('in_proj_weight', 1),
      v: part('in_proj_weight', 2),
      qBias: part('in_proj_bias', 0),
      kBias: part('in_proj_bias', 1),
      vBias: part('in_proj_bias', 2),
    },
  };
}
