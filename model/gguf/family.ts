import type { Architecture } from '../architecture/architecture.js';
import type { RowOrderKind } from './rowOrder.js';
import type { NumberType } from './values.js';

/** A setting that the metadata (after "<architecture>.") and config.json both have. */
export interface GgufField {
  readonly key: string;
  /** Its name in config.json. */
  readonly config: string;
  readonly type: NumberType | 'bool';
  /** What it is of a model; undefined: it is not written. */
  readonly of: (arch: Architecture) => number | boolean | undefined;
  /** Of config.json where the metadata lack it; absent: it is required. Null: it stays out of config.json. */
  readonly fallback?: number | null | ((sizes: GgufSizes) => number);
  /** 0 in the metadata means that there is none. */
  readonly zeroIsNone?: boolean;
}

/** Sizes that the metadata of every model have. */
export interface GgufSizes {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** What config.json calls some sizes; null: the family has no such field. */
export interface SizeNames {
  readonly intermediate: string;
  readonly kvHeads: string | null;
  readonly headDim: string | null;
  /** The part of each head that turns; null: whole heads. */
  readonly rotated: string | null;
}

/** Where GGUF and config.json meet for one architecture of llama.cpp: data, made of names. */
export interface GgufFamily {
  /** general.architecture. */
  readonly architecture: string;
  /** A part of a layer that only models of this row have, of those with the same architecture. */
  readonly mark?: string;
  /** model_type and architectures of config.json. */
  readonly modelType: string;
  readonly className: string;
  /** Other values of model_type that this row can say. */
  readonly alsoWrites?: readonly string[];
  /** Tensors outside the layers: GGUF's names beside Hugging Face's, without ".weight" or ".bias". */
  readonly outerTensors: Readonly<Record<string, string>>;
  /** What stands before a layer's number in Hugging Face's names. */
  readonly layerPrefix: string;
  /**
   * Tensors of a layer: after "blk.N." beside after `layerPrefix` and the number. A star stands for the number of an
   * expert: GGUF has the matrices of all experts as one tensor.
   */
  readonly layerTensors: Readonly<Record<string, string>>;
  /** Parts of a layer, and "output_norm", that may have a bias: llama.cpp reads no other. */
  readonly biases: readonly string[];
  /** Parts whose rows lie in another order in GGUF. */
  readonly rowOrders: Readonly<Record<string, RowOrderKind>>;
  /** Tensors of rotation factors that llama.cpp reads of such models. */
  readonly ropeFactors: readonly string[];
  /** What is added to gains of norms in GGUF. */
  readonly gainOffset: 0 | 1;
  /** Whether the output head is a tensor of its own even where it is the embedding. */
  readonly needsOutput: boolean;
  readonly fields: readonly GgufField[];
  readonly sizes: SizeNames;
  /** Which layers slide where "attention.sliding_window_pattern" does not say: all but each `every`-th. */
  readonly sliding?: {
    readonly every: number;
    /** Tokens where the metadata do not say; null: then no layer slides. */
    readonly window: number | null;
  };
  /** Fields of config.json that hold for every model of the family, or follow from its sizes. */
  readonly constants: (sizes: GgufSizes) => Readonly<Record<string, unknown>>;
  /** What tensors tell: fields of config.json by whether layer 0 has them. */
  readonly flags: Readonly<Record<string, readonly [tensor: string, there: unknown, missing: unknown]>>;
}
