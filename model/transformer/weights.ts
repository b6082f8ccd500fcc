import type { Tensor } from '../../engine/index.js';
import type { LayerTensorNames, VisionTensorNames } from '../architecture/architecture.js';

/** A layer's tensors that no model is without. */
export type RequiredWeights = 'q' | 'k' | 'v' | 'o' | 'up' | 'down';

/**
 * One layer's tensors on the device, in the checkpoint's dtype, biases as f32: what LayerTensorNames names, parts of
 * stored tensors as tensors of their own.
 */
export type LayerWeights = { readonly [K in RequiredWeights]: Tensor } & {
  readonly [K in Exclude<keyof LayerTensorNames, RequiredWeights>]: Tensor | undefined;
} & {
  /** f32 [hidden, hidden], multiplies the residual stream after the layer: what a patch does that no checkpoint holds. */
  readonly residualMap?: Tensor;
  /**
   * f32 [hidden, hidden], multiplies what down_proj gives: ReplaceMe's T as long as it is trained. Folded, down is Tᵀ down and
   * its bias is bias T.
   */
  readonly mlpMap?: Tensor;
};

/** What an image encoder has before its layers: see VisionTensorNames; biases as f32. */
export type VisionWeights = { readonly [K in keyof VisionTensorNames]: Tensor };

/** A model's tensors on the device, in the dtype of the checkpoint. */
export interface Weights {
  /** Token embeddings; of an image encoder its patch embedding, and once it is shown images (`showImages`) their tokens. */
  readonly embedding: Tensor;
  readonly finalNorm: Tensor;
  readonly finalNormBias: Tensor | undefined;
  /** The embedding itself where they are tied. */
  readonly lmHead: Tensor;
  /** Of an image encoder. */
  readonly vision?: VisionWeights | undefined;
  /** Of a streamed model only those that are held can be read (`Model.hold`). */
  readonly layers: readonly LayerWeights[];
}
