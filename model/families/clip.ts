import type { Architecture, LayerTensorNames } from '../architecture/architecture.js';
import { type ConfigReader, statedDtype } from './configReader.js';
import { type HasTensor, readActivation } from './decoder.js';
import { plainLayer, readPatches, visionEncoder } from './visionEncoder.js';

/** CLIP with both towers: reads the vision encoder and the projection of image embeddings; the text tower stays unchanged. */
export function clip(config: ConfigReader, has?: HasTensor): Architecture {
  return build(config, config.object('vision_config'), ['vision_config'], true, has);
}

/** CLIP's vision encoder alone, with or without projection. */
export function clipVision(config: ConfigReader, has?: HasTensor): Architecture {
  const classes = config.get('architectures');
  const named = Array.isArray(classes) && classes.includes('CLIPVisionModelWithProjection');
  return build(config, config, [], has ? has('visual_projection.weight') : named, has);
}

/** transformers 5 writes a stand-alone encoder without the usual prefix. */
export const visionPrefix = (has: HasTensor): string =>
  has?.('embeddings.patch_embedding.weight') === true ? '' : 'vision_model.';

/** Dimensions that config.json leaves out where they are the base model's. */
export const baseSize = { num_hidden_layers: 12, hidden_size: 768, num_attention_heads: 12 };

/** Names of a layer of CLIP and of SigLIP. */
export const clipLayer = (at: string): LayerTensorNames =>
  plainLayer(`${at}.`, {
    inputNorm: 'layer_norm1',
    q: 'self_attn.q_proj',
    k: 'self_attn.k_proj',
    v: 'self_attn.v_proj',
    o: 'self_attn.out_proj',
    mlpNorm: 'layer_norm2',
    up: 'mlp.fc1',
    down: 'mlp.fc2',
  });

/**
 * Biases everywhere, no gate, a norm before the first layer. The class token's state after the last norm, projected, is the
 * image's embedding. Source: transformers/models/clip, Radford et al. (arXiv:2103.00020).
 */
function build(
  outer: ConfigReader,
  stated: ConfigReader,
  configPath: readonly string[],
  projects: boolean,
  has: HasTensor,
): Architecture {
  stated.knows('projection_dim');
  const config = stated.withDefaults(baseSize);
  const { patches, ...image } = readPatches(config, 32);
  const prefix = visionPrefix(has);
  return visionEncoder(config, {
    family: outer.text('model_type'),
    configPath,
    dtype: statedDtype(outer),
    intermediate: config.count('intermediate_size', 3072),
    activation: readActivation(config, 'hidden_act', 'quick_gelu'),
    eps: config.positive('layer_norm_eps', 1e-5),
    tokens: patches + 1,
    vision: {
      ...image,
      pooling: 'class',
      projection: projects ? outer.count('projection_dim', 512) : null,
      batched: false,
      tensorNames: {
        classToken: `${prefix}embeddings.class_embedding`,
        positions: `${prefix}embeddings.position_embedding.weight`,
        patchBias: null,
        norm: `${prefix}pre_layrnorm.weight`,
        normBias: `${prefix}pre_layrnorm.bias`,
      },
    },
    embedding: `${prefix}embeddings.patch_embedding.weight`,
    finalNorm: `${prefix}post_layernorm`,
    ownHead: 'visual_projection.weight',
    layerPrefix: `${prefix}encoder.layers.`,
    layer: clipLayer,
  });
}
