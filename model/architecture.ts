import type { DType } from '../engine/dtype.js';
import type { LogitForm } from '../kernels/logitTile.js';
import type { Rope } from './rope.js';

/** Gate activation of the MLP: down(activation(gate(x)) * up(x)). */
export type Activation = 'silu';

/** Checkpoint names of one layer's tensors; a bias is null where the family has none. */
export interface LayerTensorNames {
  readonly inputNorm: string;
  readonly q: string;
  readonly k: string;
  readonly v: string;
  readonly o: string;
  readonly qBias: string | null;
  readonly kBias: string | null;
  readonly vBias: string | null;
  readonly oBias: string | null;
  readonly postNorm: string;
  readonly gate: string;
  readonly up: string;
  readonly down: string;
  readonly gateBias: string | null;
  readonly upBias: string | null;
  readonly downBias: string | null;
}

/** Names of a checkpoint’s tensors. */
export interface TensorNames {
  readonly embedding: string;
  readonly finalNorm: string;
  /** The embedding's name where embeddings are tied. */
  readonly lmHead: string;
  readonly layers: readonly LayerTensorNames[];
}

/**
 * Everything the transformer must know about a model, whatever its family: plain data, made from config.json by
 * model/families. Pre-norm decoder layers: x += o(attention(norm(x))), x += down(act(gate(norm(x))) * up(norm(x))).
 * Weights are [out, in], row-major, as torch.nn.Linear stores them.
 */
export interface Architecture {
  readonly family: string;
  readonly layers: number;
  readonly hidden: number;
  readonly intermediate: number;
  readonly heads: number;
  /** Key/value heads; query head h reads key/value head floor(h * kvHeads / heads). */
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocab: number;
  /** Positions the model was made for. */
  readonly contextLength: number;
  readonly normEps: number;
  readonly tiedEmbeddings: boolean;
  readonly qkvBias: boolean;
  readonly outBias: boolean;
  readonly mlpBias: boolean;
  readonly activation: Activation;
  /** Factor on q . k before the softmax. */
  readonly attentionScale: number;
  readonly rope: Rope;
  /** Per layer: how many tokens a query looks back at, itself included; null is all of them. */
  readonly attentionWindow: readonly (number | null)[];
  /** What becomes of the logits before the softmax. */
  readonly logitForm: LogitForm;
  readonly tensorNames: TensorNames;
  /** Number type that config.json states for the weights; the checkpoint's own types decide. */
  readonly dtype: DType | null;
}

/**
 * The same model with only the layers `keep` (old indices, ascending). Tensor names stay those of the checkpoint it
 * came from.
 */
export function keepLayers(arch: Architecture, keep: readonly number[]): Architecture {
  return {
    ...arch,
    layers: keep.length,
    attentionWindow: keep.map(layer => arch.attentionWindow[layer]!),
    tensorNames: { ...arch.tensorNames, layers: keep.map(layer => arch.tensorNames.layers[layer]!) },
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

/** Every tensor the architecture reads, with its shape. A tied lmHead is the embedding and is not listed again. */
export function expectedTensors(arch: Architecture): ExpectedTensor[] {
  const { hidden, intermediate, vocab, tensorNames } = arch;
  const queries = arch.heads * arch.headDim;
  const keys = arch.kvHeads * arch.headDim;
  const list: ExpectedTensor[] = [];
  const add = (name: string | null, shape: number[], part: ModelPart, layer: number | null = null) => {
    if (name !== null) list.push({ name, shape, part, layer });
  };
  add(tensorNames.embedding, [vocab, hidden], 'embedding');
  for (const [i, names] of tensorNames.layers.entries()) {
    add(names.inputNorm, [hidden], 'norms', i);
    add(names.q, [queries, hidden], 'attention', i);
    add(names.k, [keys, hidden], 'attention', i);
    add(names.v, [keys, hidden], 'attention', i);
    add(names.o, [hidden, queries], 'attention', i);
    add(names.qBias, [queries], 'attention', i);
    add(names.kBias, [keys], 'attention', i);
    add(names.vBias, [keys], 'attention', i);
    add(names.oBias, [hidden], 'attention', i);
    add(names.postNorm, [hidden], 'norms', i);
    add(names.gate, [intermediate, hidden], 'mlp', i);
    add(names.up, [intermediate, hidden], 'mlp', i);
    add(names.down, [hidden, intermediate], 'mlp', i);
    add(names.gateBias, [intermediate], 'mlp', i);
    add(names.upBias, [intermediate], 'mlp', i);
    add(names.downBias, [hidden], 'mlp', i);
  }
  add(tensorNames.finalNorm, [hidden], 'norms');
  if (!arch.tiedEmbeddings) add(tensorNames.lmHead, [vocab, hidden], 'lmHead');
  return list;
}
