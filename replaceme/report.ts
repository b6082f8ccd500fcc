import type { AdapterInfo } from '../engine/index.js';
import type { CalibrationFile } from './calibration.js';
import type { RepairSettings } from './methods/index.js';
import type { WindowChoice } from './selections/index.js';

/** What was done, with everything needed to repeat it; also the content of rm-engine.json in the output folder. */
export interface PruneReport {
  /** "keep 11, remove 12..18 (7 of 30 layers)" */
  readonly summary: string;
  readonly method: string;
  /** The paper the method comes from. */
  readonly source: string;
  readonly model: { readonly path: string; readonly fingerprint: string; readonly layers: number };
  readonly output: { readonly path: string; readonly layers: number; readonly keptLayers: readonly number[] };
  readonly selection: WindowChoice;
  /** The settings of the run, defaults filled in. */
  readonly recipe: RepairSettings & {
    readonly tokens: number;
    readonly sequenceLength: number;
    readonly batchTokens: number;
    readonly mask?: number;
    readonly generate?: number;
    readonly faithful?: boolean;
  };
  readonly calibration: {
    readonly tokens: number;
    readonly sequences: number;
    readonly files: readonly CalibrationFile[];
  };
  /** The method's own numbers. */
  readonly fit: Readonly<Record<string, number | string>>;
  readonly warnings: readonly string[];
  /** The written folder, loaded again, against the model in memory. */
  readonly verification: { readonly tokens: number; readonly maxLogitDifference: number };
  readonly adapter: AdapterInfo;
  readonly peakMemoryBytes: number;
  readonly seconds: number;
}
