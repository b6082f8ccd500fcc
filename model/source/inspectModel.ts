import { type DType, elementCount } from '../../engine/index.js';
import type { BlockFormat } from '../../kernels/index.js';
import {
  type Architecture,
  expectedTensors,
  type ModelPart,
  storedHeadDim,
  type VisionInput,
} from '../architecture/architecture.js';
import { deviceBytes } from '../checkpoint/checkpoint.js';
import { checkShapes } from '../families/index.js';
import { openCheckpoint } from './openModelSource.js';
import { readArchitecture } from './readArchitecture.js';

type Dimensions = Pick<
  Architecture,
  | ('family' | 'layers' | 'hidden' | 'intermediate' | 'heads' | 'kvHeads' | 'headDim' | 'vocab')
  | ('contextLength' | 'tiedEmbeddings' | 'ropes')
>;

/** Sides in pixels. */
type Images = Pick<VisionInput, 'imageSize' | 'patchSize' | 'projection'>;

export interface ModelSummary extends Dimensions {
  readonly path: string;
  /** Of an image encoder. */
  readonly images?: Images;
  /** Numbers of weights; a tied lmHead counts as embedding. */
  readonly parameters: Readonly<Record<ModelPart, number>> & {
    readonly perLayer: number;
    readonly total: number;
  };
  /** Number types of the stored weights, with the number of tensors of each. */
  readonly dtypes: Readonly<Partial<Record<DType | BlockFormat, number>>>;
  readonly bytes: {
    /** Tensors of the checkpoint on disk. */
    readonly checkpoint: number;
    /** Weights on the device: they keep the number type of the checkpoint; blocks become f16. */
    readonly weights: number;
    /** Keys and values of one token in the cache, all layers (f32). */
    readonly cachePerToken: number;
  };
  /** Tensors in the checkpoint that the model does not use. */
  readonly unusedTensors: readonly string[];
}

const imagesOf = ({ imageSize, patchSize, projection }: VisionInput): Images => ({
  imageSize,
  patchSize,
  projection,
});

/**
 * What a model folder holds, from config.json and the headers of the checkpoint; no weights are read, no GPU is needed.
 *
 * @throws RmError as Model.load does for folders that cannot be loaded: CHECKPOINT_*, CONFIG_INVALID, UNSUPPORTED_*.
 */
export async function inspectModel(folder: string): Promise<ModelSummary> {
  const arch = await readArchitecture(folder);
  const checkpoint = await openCheckpoint(folder);
  try {
    checkShapes(arch, checkpoint);
    const parameters = { embedding: 0, attention: 0, mlp: 0, norms: 0, lmHead: 0, perLayer: 0, total: 0 };
    const dtypes: Partial<Record<DType | BlockFormat, number>> = {};
    const used = new Set<string>();
    let weights = 0;
    for (const { name, shape, part, layer } of expectedTensors(arch)) {
      const info = checkpoint.info(name);
      const count = elementCount(shape);
      parameters[part] += count;
      parameters.total += count;
      if (layer === 0) parameters.perLayer += count;
      const stored = info.blocks ?? info.dtype;
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
      ...(arch.vision && { images: imagesOf(arch.vision) }),
      parameters,
      dtypes,
      bytes: {
        checkpoint: checkpoint.totalBytes,
        weights,
        cachePerToken: 2 * 4 * layers * kvHeads * storedHeadDim(arch),
      },
      unusedTensors: checkpoint.names.filter(name => !used.has(name)),
    };
  } finally {
    await checkpoint.close();
  }
}
