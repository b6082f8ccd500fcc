import type { Activation } from '../../kernels/index.js';
import type { Architecture, LayerTensorNames, VisionInput } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import { checkHeads, type Dimensions, decoder, evenHeads, readSize, uncommonParts } from './decoder.js';

/** How an image is divided, and into how many patches. */
type Patches = Pick<VisionInput, 'imageSize' | 'patchSize' | 'channels'> & { readonly patches: number };

/** Reads image_size, patch_size and num_channels. */
export function readPatches(config: ConfigReader, defaultPatchSize: number): Patches {
  const [imageSize, patchSize] = [
    config.count('image_size', 224),
    config.count('patch_size', defaultPatchSize),
  ];
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
  return { imageSize, patchSize, channels, patches };
}

/** What a vision transformer's family sets. */
interface EncoderTraits extends Pick<Architecture, 'family' | 'configPath' | 'dtype'> {
  readonly intermediate: number;
  readonly activation: Activation;
  readonly eps: number;
  readonly vision: VisionInput;
  /** Tokens of an image. */
  readonly tokens: number;
  readonly embedding: string;
  /** Before ".weight" and ".bias". */
  readonly finalNorm: string;
  /** The name of the projection of embeddings, where such models have one. */
  readonly ownHead: string;
  readonly layerPrefix: string;
  readonly layer: (at: string) => LayerTensorNames;
}

/**
 * A vision transformer: LayerNorm before attention and MLP, every token of an image attends to all others.
 *
 * @param sized the part of config.json with the encoder's dimensions.
 */
export function visionEncoder(sized: ConfigReader, traits: EncoderTraits): Architecture {
  const { layers, hidden, heads } = readSize(sized);
  const headDim = evenHeads(sized, hidden, heads);
  checkHeads(sized, { heads, kvHeads: heads, headDim }, 'num_attention_heads');
  const { family, configPath, dtype, intermediate, activation, eps, vision, tokens } = traits;
  const { embedding, finalNorm, ownHead, layerPrefix, layer } = traits;
  const projects = vision.projection !== null;
  const size = { layers, hidden, intermediate, heads, kvHeads: heads, headDim };
  const dimensions: Dimensions = { ...size, vocab: 0, contextLength: tokens };
  // A part of config.json may leave its family out.
  return decoder(sized.withDefaults({ model_type: family }), dimensions, {
    family,
    configPath,
    dtype,
    norm: { kind: 'layer', eps, offset: 0 },
    activation,
    ropes: [],
    layerRope: new Array<null>(layers).fill(null),
    tiedEmbeddings: !projects,
    vision,
    tensorNames: {
      embedding,
      finalNorm: `${finalNorm}.weight`,
      finalNormBias: `${finalNorm}.bias`,
      lmHead: projects ? ownHead : embedding,
      ownHead,
      layerPrefix,
      layers: Array.from({ length: layers }, (_, i) => layer(`${layerPrefix}${i}`)),
    },
  });
}

/** Names of a layer without gate: a weight and a bias each. */
interface PlainLayer {
  readonly inputNorm: string | null;
  readonly q: string;
  readonly k: string;
  readonly v: string;
  readonly o: string;
  readonly mlpNorm: string;
  readonly up: string;
  readonly down: string;
}

/** Tensor names of a layer with biases everywhere and no gate. @param at the layer's prefix, with its dot. */
export function plainLayer(at: string, names: PlainLayer): LayerTensorNames {
  const weight = (name: string) => `${at}${name}.weight`;
  const bias = (name: string) => `${at}${name}.bias`;
  const { inputNorm, q, k, v, o, mlpNorm, up, down } = names;
  return {
    inputNorm: inputNorm === null ? null : weight(inputNorm),
    inputNormBias: inputNorm === null ? null : bias(inputNorm),
    q: weight(q),
    k: weight(k),
    v: weight(v),
    qBias: bias(q),
    kBias: bias(k),
    vBias: bias(v),
    qNorm: null,
    kNorm: null,
    o: weight(o),
    oBias: bias(o),
    attentionOutNorm: null,
    mlpNorm: weight(mlpNorm),
    mlpNormBias: bias(mlpNorm),
    ...uncommonParts,
    gate: null,
    gateBias: null,
    up: weight(up),
    upBias: bias(up),
    down: weight(down),
    downBias: bias(down),
    alphaP: null,
    alphaN: null,
    mlpOutNorm: null,
  };
}
