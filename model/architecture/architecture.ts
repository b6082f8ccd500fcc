import type { DType } from '../../engine/index.js';
import type { Activation, LogitForm } from '../../kernels/index.js';
import { type LinearMixer, type MixerTensorNames, mixedColumns } from './mixer.js';
import type { Rope } from './rope.js';
import { isStack, storedName, type TensorRef } from './tensorRef.js';

export {
  isStack,
  refKey,
  storedName,
  type TensorPart,
  type TensorRef,
  type TensorStack,
} from './tensorRef.js';

/** Where a checkpoint stores one layer's tensors; null for those that the family lacks. */
export interface LayerTensorNames extends Partial<MixerTensorNames> {
  /** Before the attention. */
  readonly inputNorm: TensorRef | null;
  readonly inputNormBias: TensorRef | null;
  readonly q: TensorRef;
  readonly k: TensorRef;
  readonly v: TensorRef;
  readonly qBias: TensorRef | null;
  readonly kBias: TensorRef | null;
  readonly vBias: TensorRef | null;
  readonly qNorm: TensorRef | null;
  readonly kNorm: TensorRef | null;
  readonly o: TensorRef;
  readonly oBias: TensorRef | null;
  /** Scores of keys without values, one for each head: attention sinks that belong to no token. */
  readonly sinkBias: TensorRef | null;
  /** Between o_proj and the residual stream. */
  readonly attentionOutNorm: TensorRef | null;
  /** Before the MLP. */
  readonly mlpNorm: TensorRef | null;
  readonly mlpNormBias: TensorRef | null;
  /** Chooses the experts of a token; null in a layer without experts. */
  readonly router: TensorRef | null;
  readonly routerBias: TensorRef | null;
  /** Null: down(activation(up(x))). With a router, gate, up and down hold the matrices of all experts, one below the other. */
  readonly gate: TensorRef | null;
  readonly up: TensorRef;
  readonly down: TensorRef;
  readonly gateBias: TensorRef | null;
  readonly upBias: TensorRef | null;
  readonly downBias: TensorRef | null;
  /** The MLP of the shared expert, which every token uses, and the row whose sigmoid is its weight. */
  readonly sharedGate: TensorRef | null;
  readonly sharedUp: TensorRef | null;
  readonly sharedDown: TensorRef | null;
  readonly sharedRouter: TensorRef | null;
  /** Learned parameters of the activation xIELU, [1]. */
  readonly alphaP: TensorRef | null;
  readonly alphaN: TensorRef | null;
  /** Between down_proj and the residual stream. */
  readonly mlpOutNorm: TensorRef | null;
}

/** Where a checkpoint stores a model's tensors. */
export interface TensorNames {
  /** Token embeddings [vocab, hidden]; in an image encoder, the patch embedding [hidden, channels, side, side]. */
  readonly embedding: string;
  readonly finalNorm: string;
  readonly finalNormBias: string | null;
  /** The output head, or an image encoder's projection; the embedding's name if the model has neither. */
  readonly lmHead: string;
  readonly lmHeadBias?: string;
  /** Where the head is stored if the model has one of its own. */
  readonly ownHead: string;
  /** The part of a layer's tensor names before the layer number. */
  readonly layerPrefix: string;
  readonly layers: readonly LayerTensorNames[];
}

/** Where a checkpoint stores the tensors that an image encoder applies before its layers; null for those that it lacks. */
export interface VisionTensorNames {
  /** [hidden]; the first token of an image, before its patches. */
  readonly classToken: string | null;
  /** [patches, hidden], with a class token [1 + patches, hidden]. */
  readonly positions: string;
  /** [hidden], of the patch embedding. */
  readonly patchBias: string | null;
  /** Normalises class token and patches after positions are added. */
  readonly norm: string | null;
  readonly normBias: string | null;
}

/**
 * Pools an image's tokens by a query of its own: with a the attention of the probe to the normalised tokens, the embedding is
 * y + down(act(up(norm(y)))), y = o(a).
 */
export interface PoolingHead {
  /** [1, 1, hidden] */
  readonly probe: string;
  /** q reads the probe, k and v the tokens. */
  readonly layer: LayerTensorNames;
}

/** How a vision transformer turns an image into tokens, and their states into an embedding of the image. */
export interface VisionInput {
  /** Side of the image and of its square patches, in pixels. */
  readonly imageSize: number;
  readonly patchSize: number;
  readonly channels: number;
  /** After the final norm: the class token's state, the mean of all tokens, or what a head computes. */
  readonly pooling: 'class' | 'mean' | PoolingHead;
  /** Class token and positions are stored for a batch of one: [1, 1, hidden] and [1, 1 + patches, hidden]. */
  readonly batched: boolean;
  /** Columns of an image's embedding; null if what is pooled is not projected. */
  readonly projection: number | null;
  readonly tensorNames: VisionTensorNames;
}

/** The kind of norm that a model uses throughout; only gains and biases differ. */
export interface Norm {
  /** x / rms(x) or (x - mean) / deviation, times gain (plus bias). */
  readonly kind: 'rms' | 'layer';
  readonly eps: number;
  /** 1 if the checkpoint stores gain - 1 (Gemma), else 0. */
  readonly offset: 0 | 1;
}

/** The experts of the layers that have a router. */
export interface Experts {
  readonly count: number;
  /** How many of them a token uses. */
  readonly perToken: number;
  /** MLP features of one expert. */
  readonly features: number;
  /** MLP features of the shared expert; 0: there is none. */
  readonly shared: number;
  /** MLP features of a layer without a router. */
  readonly dense: number;
  /** A token weights its experts by a softmax over their logits, or over those of all experts. */
  readonly softmaxOver: 'chosen' | 'all';
  /** Gate is clamped to at most this, up to within it, and 1 is added to up; absent: neither. */
  readonly limit?: number;
  /** Folders store the matrices of all experts as one tensor, transposed, gate and up in turn (checkpoint/fusedExperts.ts). */
  readonly fused?: boolean;
}

/**
 * Describes a model of any family as plain data, read from config.json by model/families; the transformer needs nothing
 * else. Weights are [out, in], row-major, as torch.nn.Linear stores them. With s the residual scale, a decoder layer is
 *
 *     Y = X + s outNorm(o(attention(norm(X)))),  L = Y + s outNorm(down(act(gate(Z)) * up(Z))),  Z = norm(Y)
 *
 * with Z = norm(X) if its branches are parallel. A norm that the family lacks is the identity.
 */
export interface Architecture {
  readonly family: string;
  readonly layers: number;
  readonly hidden: number;
  /** MLP features of a token; in a mixture of experts, of those that a token uses, in the layer where they are most. */
  readonly intermediate: number;
  /** Set for mixtures of experts. */
  readonly experts: Experts | null;
  readonly heads: number;
  /** Key/value heads; query head h reads key/value head floor(h * kvHeads / heads). */
  readonly kvHeads: number;
  readonly headDim: number;
  /** 0 for image encoders. */
  readonly vocab: number;
  /** Largest number of positions. */
  readonly contextLength: number;
  readonly norm: Norm;
  /** Queries and keys are normalised per head, per head after their rotation, over the whole projection, or not at all (null). */
  readonly qkNorm: 'head' | 'rotated head' | 'projection' | null;
  /** Parallel branches: the MLP reads the layer's input, not the attention's output. */
  readonly parallel: boolean;
  /** Factor on what attention and MLP add to the residual stream. */
  readonly residualScale: number;
  /** Factor on the embeddings. */
  readonly embeddingScale: number;
  readonly tiedEmbeddings: boolean;
  /** xIELU has learned parameters in each layer, and stands only where there is no gate. */
  readonly activation: Activation | 'xielu';
  /** Factor on q . k before the softmax. */
  readonly attentionScale: number;
  /**
   * Queries are multiplied by 1 + beta log(1 + floor(position / every)), so the first `every` positions stay; null: none is.
   */
  readonly queryGrowth: { readonly beta: number; readonly every: number } | null;
  /** Scores become softcap * tanh(score / softcap); null: no cap. */
  readonly attentionSoftcap: number | null;
  /** The kinds of rotation that layers use. */
  readonly ropes: readonly Rope[];
  /** Per layer: an index into `ropes`; null: no rotation. */
  readonly layerRope: readonly (number | null)[];
  /** Per layer: the tokens that a query attends to, itself included; null: all. */
  readonly attentionWindow: readonly (number | null)[];
  /** Per layer: what mixes tokens instead of attention; null: attention. */
  readonly linear: readonly (LinearMixer | null)[];
  /** Set for image encoders, whose tokens attend to their whole image; null for text, whose tokens attend backwards only. */
  readonly vision: VisionInput | null;
  /** Scale and cap of the logits before the softmax. */
  readonly logitForm: LogitForm;
  readonly tensorNames: TensorNames;
  /** Keys in config.json that lead to the object describing the layers; empty if the whole file does. */
  readonly configPath: readonly string[];
  /** Per-layer lists that express `layerRope` and `attentionWindow` in config.json, even if the file uses a rule instead. */
  readonly configLists: Readonly<Record<string, readonly unknown[]>>;
  /** Number type that config.json states for the weights; the checkpoint's own types win. */
  readonly dtype: DType | null;
}

/** Columns of a head on the device: headDim padded with zeros to a multiple of four, because attention reads four at a time. */
export const storedHeadDim = ({ headDim }: Pick<Architecture, 'headDim'>): number =>
  4 * Math.ceil(headDim / 4);

/** Whether any layer has a norm between o_proj or down_proj and the residual stream. */
export const hasOutNorms = ({ tensorNames }: Architecture): boolean =>
  tensorNames.layers.some(({ attentionOutNorm, mlpOutNorm }) => attentionOutNorm ?? mlpOutNorm);

/** Whether any layer mixes tokens without attention. */
export const hasLinearLayers = ({ linear }: Pick<Architecture, 'linear'>): boolean => linear.some(Boolean);

/**
 * Restricts an architecture to the layers `keep` (old indices, ascending). Tensor names stay those of the original
 * checkpoint.
 */
export function keepLayers(arch: Architecture, keep: readonly number[]): Architecture {
  const cut = <T>(list: readonly T[]): T[] => keep.map(layer => list[layer]!);
  const { tensorNames, configLists } = arch;
  return {
    ...arch,
    layers: keep.length,
    layerRope: cut(arch.layerRope),
    attentionWindow: cut(arch.attentionWindow),
    linear: cut(arch.linear),
    configLists: Object.fromEntries(Object.entries(configLists).map(([key, list]) => [key, cut(list)])),
    tensorNames: { ...tensorNames, layers: cut(tensorNames.layers) },
  };
}

export type ModelPart = 'embedding' | 'attention' | 'mlp' | 'norms' | 'lmHead';

interface ExpectedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly part: ModelPart;
  /** Null outside the layers. */
  readonly layer: number | null;
}

/** The MLP of one layer: how many matrices each of gate, up and down holds, and features of each and of the shared expert. */
export function mlpSizes(
  { intermediate, experts, tensorNames }: Pick<Architecture, 'intermediate' | 'experts' | 'tensorNames'>,
  layer: number,
): { readonly matrices: number; readonly features: number; readonly shared: number } {
  if (!experts) return { matrices: 1, features: intermediate, shared: 0 };
  const { count, features, shared, dense } = experts;
  return tensorNames.layers[layer]!.router
    ? { matrices: count, features, shared }
    : { matrices: 1, features: dense, shared: 0 };
}

/** MLP features of the layer that has most of them, of all experts together: the columns of down_proj in it. */
export const mostFeatures = (arch: Architecture): number =>
  Math.max(
    ...arch.tensorNames.layers.map((_, layer) => {
      const { matrices, features, shared } = mlpSizes(arch, layer);
      return matrices * features + shared;
    }),
  );

/** Shape of every kind of tensor in a layer, and the part of the model it belongs to. */
function layerShapes(
  arch: Architecture,
  layer: number,
): Record<keyof LayerTensorNames, [ModelPart, number[]]> {
  const { hidden, headDim, qkNorm } = arch;
  const { matrices, features, shared } = mlpSizes(arch, layer);
  const mixer = arch.linear[layer] ?? null;
  const { q: queries, k: keys, v: values, out } = mixedColumns(arch, mixer);
  const [heads, valueDim] = mixer?.kind === 'gated delta rule' ? [mixer.valueHeads, mixer.valueDim] : [0, 0];
  const conv = (channels: number): [ModelPart, number[]] => ['attention', [channels, 1, mixer?.kernel ?? 0]];
  const vector = (part: ModelPart, size: number): [ModelPart, number[]] => [part, [size]];
  const norm = vector('norms', hidden);
  return {
    inputNorm: norm,
    inputNormBias: norm,
    q: ['attention', [queries, hidden]],
    k: ['attention', [keys, hidden]],
    v: ['attention', [values, hidden]],
    qBias: vector('attention', queries),
    kBias: vector('attention', keys),
    vBias: vector('attention', values),
    qNorm: vector('norms', qkNorm === 'projection' ? queries : headDim),
    kNorm: vector('norms', qkNorm === 'projection' ? keys : headDim),
    o: ['attention', [hidden, out]],
    oBias: vector('attention', hidden),
    sinkBias: vector('attention', arch.heads),
    outGate: ['attention', [out, hidden]],
    outGateBias: vector('attention', out),
    conv: conv(hidden),
    convBias: vector('attention', hidden),
    convQ: conv(queries),
    convK: conv(keys),
    convV: conv(values),
    decay: ['attention', [heads, hidden]],
    decayBias: vector('attention', heads),
    decayRate: vector('attention', heads),
    beta: ['attention', [heads, hidden]],
    mixerNorm: vector('norms', valueDim),
    attentionOutNorm: norm,
    mlpNorm: norm,
    mlpNormBias: norm,
    router: ['mlp', [matrices, hidden]],
    routerBias: vector('mlp', matrices),
    gate: ['mlp', [matrices * features, hidden]],
    up: ['mlp', [matrices * features, hidden]],
    down: ['mlp', [matrices * hidden, features]],
    gateBias: vector('mlp', matrices * features),
    upBias: vector('mlp', matrices * features),
    downBias: vector('mlp', matrices * hidden),
    sharedGate: ['mlp', [shared, hidden]],
    sharedUp: ['mlp', [shared, hidden]],
    sharedDown: ['mlp', [hidden, shared]],
    sharedRouter: ['mlp', [1, hidden]],
    alphaP: vector('mlp', 1),
    alphaN: vector('mlp', 1),
    mlpOutNorm: norm,
  };
}

/**
 * Lists every checkpoint tensor that the architecture reads, with its stored shape. A fused tensor appears once; a tied
 * lmHead does not appear besides the embedding.
 */
export function expectedTensors(arch: Architecture): ExpectedTensor[] {
  const { hidden, vocab, tensorNames, vision } = arch;
  const tensors = new Map<string, ExpectedTensor>();
  const add = (ref: TensorRef | null, shape: number[], part: ModelPart, layer: number | null = null) => {
    if (ref === null) return;
    if (isStack(ref)) {
      const [rows, ...rest] = shape;
      for (const name of ref.names) {
        tensors.set(name, { name, shape: [rows! / ref.names.length, ...rest], part, layer });
      }
      return;
    }
    const name = storedName(ref);
    const listed = tensors.get(name);
    // The parts of a fused tensor add up to its rows; a whole tensor may be referenced twice.
    const rows = typeof ref === 'string' ? 0 : (listed?.shape[0] ?? 0);
    tensors.set(name, { name, shape: [rows + shape[0]!, ...shape.slice(1)], part, layer });
  };
  if (vision) {
    const { patchSize: side, channels, tensorNames: names } = vision;
    add(tensorNames.embedding, [hidden, channels, side, side], 'embedding');
    const { batched } = vision;
    add(names.classToken, batched ? [1, 1, hidden] : [hidden], 'embedding');
    add(names.positions, [...(batched ? [1] : []), arch.contextLength, hidden], 'embedding');
    add(names.patchBias, [hidden], 'embedding');
    add(names.norm, [hidden], 'norms');
    add(names.normBias, [hidden], 'norms');
  } else {
    add(tensorNames.embedding, [vocab, hidden], 'embedding');
  }
  const addLayer = (
    names: LayerTensorNames,
    shapes: ReturnType<typeof layerShapes>,
    place: (part: ModelPart) => [ModelPart, number | null],
  ) => {
    for (const [key, ref] of Object.entries(names) as [keyof LayerTensorNames, TensorRef | null][]) {
      const [part, shape] = shapes[key];
      add(ref, shape, ...place(part));
    }
  };
  for (const [i, names] of tensorNames.layers.entries()) {
    addLayer(names, layerShapes(arch, i), part => [part, i]);
  }
  if (vision && typeof vision.pooling !== 'string') {
    add(vision.pooling.probe, [1, 1, hidden], 'lmHead');
    addLayer(vision.pooling.layer, layerShapes(arch, 0), () => ['lmHead', null]);
  }
  add(tensorNames.finalNorm, [hidden], 'norms');
  add(tensorNames.finalNormBias, [hidden], 'norms');
  if (!arch.tiedEmbeddings) add(tensorNames.lmHead, [vision?.projection ?? vocab, hidden], 'lmHead');
  add(tensorNames.lmHeadBias ?? null, [vocab], 'lmHead');
  return [...tensors.values()];
}
