import type { AdapterInfo } from '../../engine/index.js';
import type { Calibration } from '../calibration.js';
import type { CalibrationSizes } from '../request.js';
import type { ComparisonRow, Measures } from './rows.js';

export interface Comparison {
  /** This package's name and version. */
  readonly version: string;
  readonly model: { readonly path: string; readonly fingerprint: string; readonly layers: number };
  readonly adapter: AdapterInfo;
  readonly recipe: CalibrationSizes;
  readonly calibration: Pick<Calibration, 'tokens' | 'files'>;
  readonly evaluation: readonly { readonly file: string; readonly sha256: string; readonly tokens: number }[];
  /** The model as it is. */
  readonly dense: Measures;
  /** By number of layers, then by method, as asked for. */
  readonly rows: readonly ComparisonRow[];
}
