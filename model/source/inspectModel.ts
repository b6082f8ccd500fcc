import { type DType, elementCount } from '../../engine/index.js';
import type { BlockFormat, CodeFormat } from '../../kernels/index.js';
import {
  type Architecture,
  type Experts,
  expectedTensors,
  hasLinearLayers,
  type ModelPart,
  type VisionInput,
} from '../architecture/architecture.js';
import { stateBytes, tokenBytes } from '../architecture/cacheBytes.js';
import { deviceBytes } from '../checkpoint/checkpoint.js';
import { requiredJsonOf } from '../checkpoint/modelSource.js';
import { checkShapes, compressedWeights } from '../families/index.js';
import { openHeaders, openModelSource } from './openModelSource.js';
import { readArchitecture } from './readArchitecture.js';

type Dimensions = Pick<
  Architecture,
  | ('family' | 'layers' | 'hidden' | 'intermediate' | 'heads' | 'kvHeads' | 'headDim' | 'vocab')
  | ('contextLength' | 'tiedEmbeddings' | 'ropes')
>;

/** Sides in pixels. */
type Images = Pick<VisionInput, 'imageSize' | 'patchSize' | 'projection'>;

/** What a model on disk consists of. */
export interface ModelSummary extends Dimensions {
  readonly path: string;
  /** Set for mixtures of experts; `layers` have any. */
  readonly experts?: Experts & { readonly layers: number };
  /** Layers of each kind, in models that have others than attention. */
  readonly layerKinds?: Readonly<Record<string, number>>;
  /** Set for image encoders. */
  readonly images?: Images;
  /** Number of weights by part; a tied lmHead counts as embedding. */
  readonly parameters: Readonly<Record<ModelPart, number>> & {
    readonly perLayer: number;
    readonly total: number;
  };
  /** Number of tensors of each stored number type. */
  readonly dtypes: Readonly<Partial<Record<DType | BlockFormat | CodeFormat, number>>>;
  /** Set if weights are compressed: how, and the number type as which they are read. */
  readonly compressed?: { readonly method: string; readonly dtype: DType };
  /** False for a config.json without weights, of which this says what a model would be. */
  readonly stored: boolean;
  readonly bytes: {
    /** All tensors of the checkpoint on disk, or as they would be there. */
    readonly checkpoint: number;
    /** Weights on the device, in the checkpoint's number type; blocks become f16, other compressed weights what config.json states. */
    readonly weights: number;
    /** Keys and values of one token in the KV cache, all layers with attention (f32). */
    readonly cachePerToken: number;
    /** What layers without attention keep of a sequence of any length (f32), where there are such layers. */
    readonly cacheStates?: number;
  };
  /** Tensors in the checkpoint that the model does not use. */
  readonly unusedTensors: readonly string[];
}

const imagesOf = ({ imageSize, patchSize, projection }: VisionInput): Images => ({
  imageSize,
  patchSize,
  projection,
});

function countedKinds({ linear }: Architecture): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const mixer of linear) {
    const kind = mixer?.kind ?? 'attention';
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/**
 * Summarises a model from config.json and the checkpoint's headers, without reading weights and without a GPU. Where there are
 * no weights, from config.json alone: what they would be, in the number type that it states (bf16 if it states none).
 *
 * @throws RmError CHECKPOINT_*, CONFIG_INVALID, UNSUPPORTED_*, as Model.load.
 */
export async function inspectModel(folder: string): Promise<ModelSummary> {
  const arch = await readArchitecture(folder);
  const checkpoint = await openHeaders(folder, arch);
  const source = await openModelSource(folder);
  const compressed = compressedWeights(await requiredJsonOf(source, 'config.json'), folder);
  try {
    checkShapes(arch, checkpoint);
    const parameters = { embedding: 0, attention: 0, mlp: 0, norms: 0, lmHead: 0, perLayer: 0, total: 0 };
    const dtypes: Partial<Record<DType | BlockFormat | CodeFormat, number>> = {};
    const used = new Set<string>();
    let weights = 0;
    for (const { name, shape, part, layer } of expectedTensors(arch)) {
      const info = checkpoint.info(name);
      const count = elementCount(shape);
      parameters[part] += count;
      parameters.total += count;
      if (layer === 0) parameters.perLayer += count;
      const stored = typeof info.blocks === 'object' ? info.blocks.codes : (info.blocks ?? info.dtype);
      dtypes[stored] = (dtypes[stored] ?? 0) + 1;
      weights += deviceBytes(info);
      used.add(name);
    }
    const { family, layers, hidden, intermediate, heads, kvHeads, headDim, vocab } = arch;
    return {
      ...{ path: folder, family, layers, hidden, intermediate, heads, kvHeads, headDim, vocab },
      contextLength: arch.contextLength,
      tiedEmbeddings: arch.tiedEmbeddings,
      ropes: arch.ropes,
      ...(arch.experts && {
        experts: {
          ...arch.experts,
          layers: arch.tensorNames.layers.filter(({ router }) => router).length,
        },
      }),
      ...(hasLinearLayers(arch) && { layerKinds: countedKinds(arch) }),
      ...(arch.vision && { images: imagesOf(arch.vision) }),
      parameters,
      dtypes,
      ...(compressed && {
        compressed: { method: compressed.compression.label, dtype: compressed.dtype },
      }),
      stored: (await source.weightFiles()).length > 0,
      bytes: {
        checkpoint: checkpoint.totalBytes,
        weights,
        cachePerToken: tokenBytes(arch),
        ...(hasLinearLayers(arch) && { cacheStates: stateBytes(arch) }),
      },
      unusedTensors: checkpoint.names.filter(name => !used.has(name)),
    };
  } finally {
    await checkpoint.close();
  }
}
