import type { Architecture } from '../architecture/architecture.js';
import type { RowOrderKind } from './rowOrder.js';
import type { NumberType } from './values.js';

/** A setting present in the metadata (after "<architecture>.") and in config.json. */
export interface GgufField {
  readonly key: string;
  /** Its name in config.json; null: `ropeScaling` reads it. */
  readonly config: string | null;
  readonly type: NumberType | 'bool';
  /** A model's value; undefined: do not write the setting. */
  readonly of: (arch: Architecture) => number | boolean | undefined;
  /** Value if the metadata lack the setting; absent: it is required; null: leave it out of config.json. */
  readonly fallback?: number | null | ((sizes: GgufSizes) => number);
  /** 0 in the metadata means absent. */
  readonly zeroIsNone?: boolean;
}

/** Sizes that every model's metadata contain. */
export interface GgufSizes {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** Names of some sizes in config.json; null: the family has no such field. */
interface SizeNames {
  readonly intermediate: string;
  readonly kvHeads: string | null;
  readonly headDim: string | null;
  /** The rotating part of each head; null: whole heads rotate. */
  readonly rotated: string | null;
}

/** Maps one architecture of llama.cpp to config.json and Hugging Face's tensor names. */
export interface GgufFamily {
  /** general.architecture. */
  readonly architecture: string;
  /** A part of a layer, or a setting, that distinguishes this row from others of the same architecture. */
  readonly mark?: string;
  /** model_type and architectures of config.json. */
  readonly modelType: string;
  readonly className: string;
  /** Other values of model_type that are written by this row. */
  readonly alsoWrites?: readonly string[];
  /** Which models of these families it can say (default: all). */
  readonly takes?: (arch: Architecture) => boolean;
  /** Tensors outside the layers: GGUF's name -> Hugging Face's, without ".weight" or ".bias". */
  readonly outerTensors: Readonly<Record<string, string>>;
  /** The part of Hugging Face's tensor names before the layer number. */
  readonly layerPrefix: string;
  /**
   * Tensors of a layer: GGUF's name after "blk.N." -> Hugging Face's after `layerPrefix` and the number. A star stands for
   * the expert's number: GGUF stores the matrices of all experts as one tensor.
   */
  readonly layerTensors: Readonly<Record<string, string>>;
  /** Parts of a layer, and "output_norm", that may have a bias; llama.cpp reads no others. */
  readonly biases: readonly string[];
  /** Parts whose rows have another order in GGUF. */
  readonly rowOrders: Readonly<Record<string, RowOrderKind>>;
  /** Tensors of rotation factors that llama.cpp reads in such models. */
  readonly ropeFactors: readonly string[];
  /** Added to the gains of norms in GGUF. */
  readonly gainOffset: 0 | 1;
  /** Whether GGUF needs a separate output head even if it equals the embedding. */
  readonly needsOutput: boolean;
  readonly fields: readonly GgufField[];
  readonly sizes: SizeNames;
  /** Without "attention.sliding_window_pattern", all layers slide but every `every`-th. */
  readonly sliding?: {
    readonly every: number;
    /** Window in tokens if the metadata lack it; null: no layer slides then. */
    readonly window: number | null;
  };
  /** The kind of layers that have 0 key heads in the metadata, which then list them by layer. */
  readonly withoutKeys?: string;
  /** Fields of config.json that are constant in the family or follow from its sizes. */
  readonly constants: (sizes: GgufSizes) => Readonly<Record<string, unknown>>;
  /** Fields of config.json that depend on whether layer 0 has a tensor. */
  readonly flags: Readonly<Record<string, readonly [tensor: string, there: unknown, missing: unknown]>>;
}
