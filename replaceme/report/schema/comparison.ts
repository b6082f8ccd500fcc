import type { DamagePoint } from '../../evaluation/layerDamage.js';
import type { Measures } from '../../evaluation/modelMeasures.js';
import type { RepairDetails } from '../../fits/repair.js';
import type { RidgePath } from '../../fits/ridgePath.js';

/** One method at one number of removed layers. */
export interface MeasuredRow extends Measures {
  readonly method: string;
  readonly layers: number;
  /** (i, n): layer i stays, layers i+1 ... i+n are removed. */
  readonly windows: readonly (readonly [layer: number, count: number])[];
  readonly selection: { readonly name: string; readonly by: string; readonly seconds: number };
  /** Selection and repair; a selection that several rows share counts for each. */
  readonly fitSeconds: number;
  /** The method's own numbers. */
  readonly details: RepairDetails;
  readonly ridgePaths: readonly RidgePath[];
  /** Where it was measured. */
  readonly damageByLayer?: readonly DamagePoint[];
  readonly warnings: readonly string[];
}

/** A method that cannot do it. */
export interface RefusedRow {
  readonly method: string;
  readonly layers: number;
  readonly windows: readonly [];
  readonly eval: readonly [];
  /** Why. */
  readonly refused: string;
}

/** A row of a comparison: measured, or the reason why there is no measure. */
export type ComparisonRow = MeasuredRow | RefusedRow;
