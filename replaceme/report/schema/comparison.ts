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
  /** Seconds of selection and repair; a selection that several rows share counts for each. */
  readonly fitSeconds: number;
  /** The method's numbers. */
  readonly details: RepairDetails;
  readonly ridgePaths: readonly RidgePath[];
  /** Absent without a report. */
  readonly damageByLayer?: readonly DamagePoint[];
  readonly warnings: readonly string[];
}

/** A method that refused the model or the number of layers. */
export interface RefusedRow {
  readonly method: string;
  readonly layers: number;
  readonly windows: readonly [];
  readonly eval: readonly [];
  /** The reason. */
  readonly refused: string;
}

/** A row of a comparison: measures, or the reason why there are none. */
export type ComparisonRow = MeasuredRow | RefusedRow;
