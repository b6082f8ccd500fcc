import type { Tensor } from '../../engine/index.js';
import type { LayerTensorNames, VisionTensorNames } from '../architecture/architecture.js';

/** Weights that every model's layers have. */
export type RequiredWeights = 'q' | 'k' | 'v' | 'o' | 'up' | 'down';

/**
 * One layer's weights on the device, in the checkpoint's dtype, biases as f32, under the keys of LayerTensorNames. Fused
 * tensors are split on load.
 */
export type LayerWeights = { readonly [K in RequiredWeights]: Tensor } & {
  readonly [K in Exclude<keyof LayerTensorNames, RequiredWeights>]: Tensor | undefined;
} & {
  /** f32 [hidden, hidden]; multiplies the residual stream after the layer. A patch in memory; no checkpoint stores it. */
  readonly residualMap?: Tensor;
  /**
   * f32 [hidden, hidden]; multiplies the output of down_proj: ReplaceMe's T while it is trained. Once folded, down is
   * Tᵀ down and its bias is bias T.
   */
  readonly mlpMap?: Tensor;
};

/** Weights that an image encoder applies before its layers, see VisionTensorNames, and those of its pooling head; biases as f32. */
export type VisionWeights = { readonly [K in keyof VisionTensorNames]: Tensor | undefined } & {
  readonly positions: Tensor;
  readonly head: { readonly probe: Tensor; readonly layer: LayerWeights } | undefined;
};

/** A model's weights on the device, in the checkpoint's dtype. */
export interface Weights {
  /** Token embeddings; in an image encoder the patch embedding or, after `showImages`, the tokens of the images. */
  readonly embedding: Tensor;
  readonly finalNorm: Tensor;
  readonly finalNormBias: Tensor | undefined;
  /** The embedding itself if the two are tied. */
  readonly lmHead: Tensor;
  readonly lmHeadBias?: Tensor | undefined;
  /** Set for image encoders. */
  readonly vision?: VisionWeights | undefined;
  /** In an offloaded model only the loaded layer can be read (`Model.loadLayer`). */
  readonly layers: readonly LayerWeights[];
}
