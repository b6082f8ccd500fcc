/** Held-out loss of the ridge regression of one projection of a layer, along its ridges. */
export interface ProjectionPath {
  readonly projection: 'o' | 'down';
  /** Largest ridge first; the search ends when the loss rises again. Empty when the ridge was given. */
  readonly points: readonly RidgePoint[];
  /** The best ridge, or the given one; absent when none beat no change, so that the weight stayed as it was. */
  readonly chosen?: number;
}

/** The path of one projection of one layer. */
export interface RidgePath extends ProjectionPath {
  /** Index in the unpruned model. */
  readonly layer: number;
  /** Whether it is the layer before a window, or one after it. */
  readonly purpose: 'fit' | 'healing';
}

/** The held-out loss of one ridge. */
export interface RidgePoint {
  /** Share of the Gram matrix's mean diagonal, or in healing of each feature's own element of it. */
  readonly ridge: number;
  /** |F Delta - R|² / |R|² on held-out tokens; 1: no better than no change. */
  readonly heldOut: number;
}
