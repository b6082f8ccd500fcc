import type { Architecture, LayerTensorNames } from '../architecture/architecture.js';
import { type ConfigReader, statedDtype } from './configReader.js';
import { checkHeads, evenHeads, type HasTensor, readActivation, readSize, uncommonParts } from './decoder.js';

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

/**
 * A vision transformer: LayerNorm before attention and MLP, biases everywhere, no gate, every patch attends to all others.
 * The class token's state after the last norm, projected, is the image's embedding. Source: transformers/models/clip,
 * Radford et al. (arXiv:2103.00020).
 */
function build(
  outer: ConfigReader,
  config: ConfigReader,
  configPath: readonly string[],
  projects: boolean,
  has: HasTensor | undefined,
): Architecture {
  config.knows('projection_dim');
  const { layers, hidden, heads } = readSize(config);
  const headDim = evenHeads(config, hidden, heads);
  checkHeads(config, { heads, kvHeads: heads, headDim }, 'num_attention_heads');
  const [imageSize, patchSize] = [config.count('image_size', 224), config.count('patch_size', 32)];
  if (patchSize > imageSize) {
    throw config.invalid('patch_size', `${patchSize} is larger than image_size ${imageSize}`);
  }
  const patches = Math.floor(imageSize / patchSize) ** 2;
  if (patches >= 1 << 20)
    throw config.invalid('image_size', `gives ${patches} patches, more than any model has`);
  const channels = config.count('num_channels', 3);
  if (channels !== 3) {
    throw config.unsupported(
      'num_channels',
      `is ${channels}; images have 3`,
      'Choose a model for colour images.',
    );
  }
  // transformers 5 writes a stand-alone encoder without the usual prefix.
  const bare = has?.('embeddings.patch_embedding.weight') === true;
  const prefix = bare ? '' : 'vision_model.';
  const named = (name: string) => ({ weight: `${prefix}${name}.weight`, bias: `${prefix}${name}.bias` });
  const [preNorm, postNorm] = [named('pre_layrnorm'), named('post_layernorm')];
  const embedding = `${prefix}embeddings.patch_embedding.weight`;
  return {
    family: outer.text('model_type'),
    layers,
    hidden,
    intermediate: config.count('intermediate_size', 3072),
    heads,
    kvHeads: heads,
    headDim,
    vocab: 0,
    contextLength: patches + 1,
    norm: { kind: 'layer', eps: config.positive('layer_norm_eps', 1e-5), offset: 0 },
    qkNorm: null,
    parallel: false,
    residualScale: 1,
    embeddingScale: 1,
    tiedEmbeddings: !projects,
    activation: readActivation(config, 'hidden_act', 'quick_gelu'),
    attentionScale: headDim ** -0.5,
    attentionSoftcap: null,
    queryGrowth: null,
    ropes: [],
    layerRope: new Array<null>(layers).fill(null),
    attentionWindow: new Array<null>(layers).fill(null),
    linear: new Array<null>(layers).fill(null),
    logitForm: {},
    experts: null,
    vision: {
      imageSize,
      patchSize,
      channels,
      projection: projects ? outer.count('projection_dim', 512) : null,
      tensorNames: {
        classToken: `${prefix}embeddings.class_embedding`,
        positions: `${prefix}embeddings.position_embedding.weight`,
        norm: preNorm.weight,
        normBias: preNorm.bias,
      },
    },
    tensorNames: {
      embedding,
      finalNorm: postNorm.weight,
      finalNormBias: postNorm.bias,
      lmHead: projects ? 'visual_projection.weight' : embedding,
      ownHead: 'visual_projection.weight',
      layerPrefix: `${prefix}encoder.layers.`,
      layers: Array.from({ length: layers }, (_, layer) => layerNames(`${prefix}encoder.layers.${layer}`)),
    },
    configPath,
    configLists: {},
    dtype: statedDtype(outer),
  };
}

function layerNames(at: string): LayerTensorNames {
  const pair = (name: string) => ({ weight: `${at}.${name}.weight`, bias: `${at}.${name}.bias` });
  const [before, between] = [pair('layer_norm1'), pair('layer_norm2')];
  const [q, k, v, o] = ['q_proj', 'k_proj', 'v_proj', 'out_proj'].map(name => pair(`self_attn.${name}`));
  const [up, down] = [pair('mlp.fc1'), pair('mlp.fc2')];
  return {
    inputNorm: before.weight,
    inputNormBias: before.bias,
    q: q!.weight,
    k: k!.weight,
    v: v!.weight,
    qBias: q!.bias,
    kBias: k!.bias,
    vBias: v!.bias,
    qNorm: null,
    kNorm: null,
    o: o!.weight,
    oBias: o!.bias,
    attentionOutNorm: null,
    mlpNorm: between.weight,
    mlpNormBias: between.bias,
    ...uncommonParts,
    gate: null,
    gateBias: null,
    up: up.weight,
    upBias: up.bias,
    down: down.weight,
    downBias: down.bias,
    alphaP: null,
    alphaN: null,
    mlpOutNorm: null,
  };
}
