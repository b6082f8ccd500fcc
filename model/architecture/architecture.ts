import type { DType } from '../../engine/index.js';
import type { Activation, LogitForm } from '../../kernels/index.js';
import type { Rope } from './rope.js';

/** Some rows of a stored tensor: `runs` runs of `count` rows, the first from row `first` on, one every `stride` rows. */
export interface TensorPart {
  readonly name: string;
  readonly first: number;
  readonly count: number;
  readonly stride: number;
  readonly runs: number;
}

/** Several stored matrices of one shape, under each other or side by side. */
export interface TensorStack {
  readonly names: readonly string[];
  readonly along: 'rows' | 'columns';
}

/** What a checkpoint calls a tensor; a part, where it stores several as one; a stack, where it stores one in pieces. */
export type TensorRef = string | TensorPart | TensorStack;

export const isStack = (ref: TensorRef): ref is TensorStack => typeof ref !== 'string' && 'names' in ref;

/** The name of the tensor that a reference is to, to a part of, or to a stack of which it is the first. */
export const storedName = (ref: TensorRef): string =>
  typeof ref === 'string' ? ref : isStack(ref) ? ref.names[0]! : ref.name;

/** Tells references apart: the stored name, of a part also its first row. */
export const refKey = (ref: TensorRef): string =>
  typeof ref === 'string' || isStack(ref) ? storedName(ref) : `${ref.name} from row ${ref.first}`;

/** Where one layer's tensors are in a checkpoint; null where the family has none. */
export interface LayerTensorNames {
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
  /** Between o_proj and the residual stream. */
  readonly attentionOutNorm: TensorRef | null;
  /** Before the MLP. */
  readonly mlpNorm: TensorRef | null;
  readonly mlpNormBias: TensorRef | null;
  /** Says which experts a token uses. */
  readonly router: TensorRef | null;
  /** Null: down(activation(up(x))). Of a mixture of experts gate, up and down are those of all. */
  readonly gate: TensorRef | null;
  readonly up: TensorRef;
  readonly down: TensorRef;
  readonly gateBias: TensorRef | null;
  readonly upBias: TensorRef | null;
  readonly downBias: TensorRef | null;
  /** Between down_proj and the residual stream. */
  readonly mlpOutNorm: TensorRef | null;
}

/** Where a checkpoint’s tensors are. */
export interface TensorNames {
  /** Token embeddings [vocab, hidden]; of an image encoder what makes states of patches [hidden, channels, side, side]. */
  readonly embedding: string;
  readonly finalNorm: string;
  readonly finalNormBias: string | null;
  /** The output head, of an image encoder the projection; the embedding's name where there is none of its own. */
  readonly lmHead: string;
  /** What stands before the number of a layer in the names of its tensors. */
  readonly layerPrefix: string;
  readonly layers: readonly LayerTensorNames[];
}

/** What an image encoder has before its layers: where a checkpoint has it. */
export interface VisionTensorNames {
  /** [hidden], stands before the patches of an image. */
  readonly classToken: string;
  /** [1 + patches, hidden] */
  readonly positions: string;
  /** Of class token and patches with their positions. */
  readonly norm: string;
  readonly normBias: string;
}

/** How an image becomes tokens (a vision transformer), and their class token an embedding of the image. */
export interface VisionInput {
  /** Pixels of each side of the image and of each square patch of it. */
  readonly imageSize: number;
  readonly patchSize: number;
  readonly channels: number;
  /** Columns of an image's embedding; null where the class token's state is not projected. */
  readonly projection: number | null;
  readonly tensorNames: VisionTensorNames;
}

/** The norms of a model, all of one kind but for their gains (and biases). */
export interface Norm {
  /** x / rms(x) or (x - mean) / deviation, times gain (plus bias). */
  readonly kind: 'rms' | 'layer';
  readonly eps: number;
  /** 1 where the checkpoint stores the gain's difference from 1. */
  readonly offset: 0 | 1;
}

/**
 * Everything the transformer must know about a model, whatever its family: plain data, made from config.json by
 * model/families. Weights are [out, in], row-major, as torch.nn.Linear stores them. With norms that are not there left
 * out, and s the residual scale, a decoder layer is
 *
 *     Y = X + s outNorm(o(attention(norm(X)))),  L = Y + s outNorm(down(act(gate(Z)) * up(Z))),  Z = norm(Y)
 *
 * or, where its branches are parallel, the same with Z = norm(X).
 */
export interface Architecture {
  readonly family: string;
  readonly layers: number;
  readonly hidden: number;
  /** Features of the MLP; of a mixture of experts, of all of them. */
  readonly intermediate: number;
  /** The features are those of so many experts, one after the other; a token uses its best, others count 0. */
  readonly experts: { readonly count: number; readonly perToken: number } | null;
  readonly heads: number;
  /** Key/value heads; query head h reads key/value head floor(h * kvHeads / heads). */
  readonly kvHeads: number;
  readonly headDim: number;
  /** 0 for image encoders. */
  readonly vocab: number;
  /** Positions the model was made for. */
  readonly contextLength: number;
  readonly norm: Norm;
  /** What queries and keys are normalised over, where they are: each head, or all heads together. */
  readonly qkNorm: 'head' | 'projection' | null;
  /** The MLP reads the layer's input, not what the attention has made of it. */
  readonly parallel: boolean;
  /** Factor of what attention and MLP add to the residual stream. */
  readonly residualScale: number;
  /** Factor of the embeddings. */
  readonly embeddingScale: number;
  readonly tiedEmbeddings: boolean;
  readonly activation: Activation;
  /** Factor on q . k before the softmax. */
  readonly attentionScale: number;
  /** Scores become softcap * tanh(score / softcap); null: they stay. */
  readonly attentionSoftcap: number | null;
  /** The kinds of rotation that layers have. */
  readonly ropes: readonly Rope[];
  /** Per layer: which of `ropes`; null is none. */
  readonly layerRope: readonly (number | null)[];
  /** Per layer: how many tokens a query looks back at, itself included; null is all of them. */
  readonly attentionWindow: readonly (number | null)[];
  /** Of image encoders, in which every token sees all others of its image; null: tokens are of text and see none after them. */
  readonly vision: VisionInput | null;
  /** What becomes of the logits before the softmax. */
  readonly logitForm: LogitForm;
  readonly tensorNames: TensorNames;
  /** Keys in config.json that lead to the object that describes the layers; none where that is all of it. */
  readonly configPath: readonly string[];
  /** Lists by layer that say in config.json what `layerRope` and `attentionWindow` say, also where it has a rule instead. */
  readonly configLists: Readonly<Record<string, readonly unknown[]>>;
  /** Number type that config.json states for the weights; the checkpoint's own types decide. */
  readonly dtype: DType | null;
}

/** Columns of a head as queries, keys and values lie on the device: attention reads four at a time, the last may be 0. */
export const storedHeadDim = ({ headDim }: Pick<Architecture, 'headDim'>): number =>
  4 * Math.ceil(headDim / 4);

/** Whether a norm stands between a layer's last linear maps and the residual stream. */
export const hasOutNorms = ({ tensorNames }: Architecture): boolean =>
  tensorNames.layers.some(({ attentionOutNorm, mlpOutNorm }) => attentionOutNorm ?? mlpOutNorm);

/**
 * The same model with only the layers `keep` (old indices, ascending). Tensor names stay those of the checkpoint it
 * came from.
 */
export function keepLayers(arch: Architecture, keep: readonly number[]): Architecture {
  const cut = <T>(list: readonly T[]): T[] => keep.map(layer => list[layer]!);
  const { tensorNames, configLists } = arch;
  return {
    ...arch,
    layers: keep.length,
    layerRope: cut(arch.layerRope),
    attentionWindow: cut(arch.attentionWindow),
    configLists: Object.fromEntries(Object.entries(configLists).map(([key, list]) => [key, cut(list)])),
    tensorNames: { ...tensorNames, layers: cut(tensorNames.layers) },
  };
}

export type ModelPart = 'embedding' | 'attention' | 'mlp' | 'norms' | 'lmHead';

export interface ExpectedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly part: ModelPart;
  /** Null outside the layers. */
  readonly layer: number | null;
}

/** Shape of every kind of tensor in a layer, and the part of the model it counts as. */
function layerShapes(arch: Architecture): Record<keyof LayerTensorNames, [ModelPart, number[]]> {
  const { hidden, intermediate, headDim, qkNorm } = arch;
  const [queries, keys] = [arch.heads * headDim, arch.kvHeads * headDim];
  const vector = (part: ModelPart, size: number): [ModelPart, number[]] => [part, [size]];
  const norm = vector('norms', hidden);
  return {
    inputNorm: norm,
    inputNormBias: norm,
    q: ['attention', [queries, hidden]],
    k: ['attention', [keys, hidden]],
    v: ['attention', [keys, hidden]],
    qBias: vector('attention', queries),
    kBias: vector('attention', keys),
    vBias: vector('attention', keys),
    qNorm: vector('norms', qkNorm === 'head' ? headDim : queries),
    kNorm: vector('norms', qkNorm === 'head' ? headDim : keys),
    o: ['attention', [hidden, queries]],
    oBias: vector('attention', hidden),
    attentionOutNorm: norm,
    mlpNorm: norm,
    mlpNormBias: norm,
    router: ['mlp', [arch.experts?.count ?? 0, hidden]],
    gate: ['mlp', [intermediate, hidden]],
    up: ['mlp', [intermediate, hidden]],
    down: ['mlp', [hidden, intermediate]],
    gateBias: vector('mlp', intermediate),
    upBias: vector('mlp', intermediate),
    downBias: vector('mlp', hidden),
    mlpOutNorm: norm,
  };
}

/**
 * Every tensor of the checkpoint that the architecture reads, with its shape: one that holds several parts is listed
 * once, as it is stored, and a tied lmHead is the embedding and not listed again.
 */
export function expectedTensors(arch: Architecture): ExpectedTensor[] {
  const { hidden, vocab, tensorNames, vision } = arch;
  const found = new Map<string, ExpectedTensor>();
  const add = (ref: TensorRef | null, shape: number[], part: ModelPart, layer: number | null = null) => {
    if (ref === null) return;
    if (isStack(ref)) {
      const { names, along } = ref;
      const [rows, columns] = along === 'rows' ? [names.length, 1] : [1, names.length];
      for (const name of names) {
        found.set(name, { name, shape: [shape[0]! / rows, shape[1]! / columns], part, layer });
      }
      return;
    }
    const name = storedName(ref);
    const known = found.get(name);
    // Parts add up to what is stored; one tensor may also serve twice.
    const rows = typeof ref === 'string' ? 0 : (known?.shape[0] ?? 0);
    found.set(name, { name, shape: [rows + shape[0]!, ...shape.slice(1)], part, layer });
  };
  if (vision) {
    const { patchSize: side, channels, tensorNames: names } = vision;
    add(tensorNames.embedding, [hidden, channels, side, side], 'embedding');
    add(names.classToken, [hidden], 'embedding');
    add(names.positions, [arch.contextLength, hidden], 'embedding');
    add(names.norm, [hidden], 'norms');
    add(names.normBias, [hidden], 'norms');
  } else {
    add(tensorNames.embedding, [vocab, hidden], 'embedding');
  }
  const shapes = layerShapes(arch);
  for (const [i, names] of tensorNames.layers.entries()) {
    for (const [key, ref] of Object.entries(names) as [keyof LayerTensorNames, TensorRef | null][]) {
      const [part, shape] = shapes[key];
      add(ref, shape, part, i);
    }
  }
  add(tensorNames.finalNorm, [hidden], 'norms');
  add(tensorNames.finalNormBias, [hidden], 'norms');
  if (!arch.tiedEmbeddings) add(tensorNames.lmHead, [vision?.projection ?? vocab, hidden], 'lmHead');
  return [...found.values()];
}
