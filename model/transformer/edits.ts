import { settings, type Tensor } from '../../engine/index.js';
import { maybeFunction } from '../arguments/forms.js';

/**
 * Changes what the layers compute. Each function is called while the layer is being recorded, and records kernels that
 * overwrite its tensor in place: what follows reads the new values. Row k is token k of the batch. With `lastToken` the last
 * layer's `mlp` and the stream after it have one row. The tensors are valid only during the call.
 */
export interface Edits {
  /**
   * The residual stream [T, hidden] before layer `layer`: 0 for the embeddings, and the number of layers for what leaves the
   * last one, before the final norm.
   */
  residual?(layer: number, stream: Tensor): void;
  /** The heads' outputs [T, heads, headDim], which o_proj reads. */
  heads?(layer: number, outputs: Tensor): void;
  /** What the MLP adds to the residual stream [T, hidden]. */
  mlp?(layer: number, output: Tensor): void;
}

export const editsForm = settings<Edits>({
  residual: maybeFunction,
  heads: maybeFunction,
  mlp: maybeFunction,
});
