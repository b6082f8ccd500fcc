/** Held-out loss of the ridge regression of one projection of a layer, along its ridges. */
export interface ProjectionPath {
  readonly projection: 'o' | 'down';
  /** Large ones first; the search ends where the loss goes up again. Empty where the ridge was given. */
  readonly points: readonly RidgePoint[];
  /** The best, or the given one; absent where none did better than no change, so that the weight stayed as it was. */
  readonly chosen?: number;
}

/** The same of a layer in a model. */
export interface RidgePath extends ProjectionPath {
  /** Of the unpruned model. */
  readonly layer: number;
  /** Whether it is the layer before a window, or one after it. */
  readonly purpose: 'fit' | 'healing';
}

/** The held-out loss of one ridge. */
/** One ridge and what it came to. */
export interface RidgePoint {
  /** Share of the Gram matrix's mean diagonal, or in healing of each feature's own element of it. */
  readonly ridge: number;
  /** |F Delta - R|² / |R|² on held-out tokens; 1: no better than no change. */
  readonly heldOut: number;
}
