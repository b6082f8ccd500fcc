import type { Architecture } from '../architecture/architecture.js';
import { baseSize } from './clip.js';
import { type ConfigReader, statedDtype } from './configReader.js';
import { type HasTensor, readActivation } from './decoder.js';
import { plainLayer, readPatches, visionEncoder } from './visionEncoder.js';

/**
 * ViT, alone or within a classifier, whose head stays as it is. The class token's state after the last norm is the image's
 * embedding. Source: transformers/models/vit, Dosovitskiy et al. (arXiv:2010.11929).
 */
export function vit(stated: ConfigReader, has?: HasTensor): Architecture {
  const config = stated.withDefaults(baseSize).knows('encoder_stride', 'pooler_act', 'pooler_output_size');
  const { patches, ...image } = readPatches(config, 16);
  const classes = config.get('architectures');
  const alone = has
    ? has('embeddings.cls_token')
    : !Array.isArray(classes) || classes.includes('ViTModel') || classes.length === 0;
  const prefix = alone ? '' : 'vit.';
  const embeddings = `${prefix}embeddings.`;
  const qkvBias = config.flag('qkv_bias', true);
  return visionEncoder(config, {
    family: config.text('model_type'),
    configPath: [],
    dtype: statedDtype(config),
    intermediate: config.count('intermediate_size', 3072),
    activation: readActivation(config, 'hidden_act', 'gelu'),
    eps: config.positive('layer_norm_eps', 1e-12),
    tokens: patches + 1,
    vision: {
      ...image,
      pooling: 'class',
      projection: null,
      batched: true,
      tensorNames: {
        classToken: `${embeddings}cls_token`,
        positions: `${embeddings}position_embeddings`,
        patchBias: `${embeddings}patch_embeddings.projection.bias`,
        norm: null,
        normBias: null,
      },
    },
    embedding: `${embeddings}patch_embeddings.projection.weight`,
    finalNorm: `${prefix}layernorm`,
    ownHead: 'classifier.weight',
    layerPrefix: `${prefix}encoder.layer.`,
    layer: at => {
      const names = plainLayer(`${at}.`, {
        inputNorm: 'layernorm_before',
        q: 'attention.attention.query',
        k: 'attention.attention.key',
        v: 'attention.attention.value',
        o: 'attention.output.dense',
        mlpNorm: 'layernorm_after',
        up: 'intermediate.dense',
        down: 'output.dense',
      });
      return qkvBias ? names : { ...names, qBias: null, kBias: null, vBias: null };
    },
  });
}
