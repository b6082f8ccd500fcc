import type { AdapterInfo } from '../../../engine/index.js';
import type { Evaluation, WeightDtype } from '../../../model/index.js';
import type { CalibrationFile } from '../../calibration/readCalibration.js';
import type { CalibrationSizes } from '../../calibration/sizes.js';
import type { Measures } from '../../evaluation/modelMeasures.js';
import type { ImageEvaluation, PruneEvaluation } from '../../evaluation/pruneEvaluation.js';
import type { Sample } from '../../evaluation/samples.js';
import type { RidgePath } from '../../fits/ridgePath.js';
import type { HealingRecord } from '../../healing/gradientHealing.js';
import type { HealingSettings, HealingSizes } from '../../healing/healingSettings.js';
import type { RepairSettings } from '../../methods/index.js';
import type { Placement } from '../../planning/memoryParts.js';
import type { PlannedMemory } from '../../planning/memoryPlan.js';
import type { PlannedPhase } from '../../planning/timePlan.js';
import type { Phase } from '../../run/phaseClock.js';
import type { MeasuredWindows, WindowChoice } from '../../selections/index.js';
import type { ComparisonRow } from './comparison.js';

export type { DamagePoint } from '../../evaluation/layerDamage.js';
export type { PositionLoss } from '../../evaluation/positionLoss.js';
export type { Continuation, Sample } from '../../evaluation/samples.js';
export type { RidgePath, RidgePoint } from '../../fits/ridgePath.js';
export type { HealingRecord } from '../../healing/gradientHealing.js';
export type { HeldOutPoint, TrainingStep } from '../../healing/trainingRecord.js';
export type { Phase, PhaseName } from '../../run/phaseClock.js';
export type { MappedWindow, MeasuredWindows } from '../../selections/index.js';

/** Says how a report.json is to be read; the number goes up when a field changes its meaning or goes away. */
export const REPORT_SCHEMA = 'rm-engine-report/1';

/** The content of report.json. docs/report.schema.json is the same as a JSON Schema. Lengths of time are seconds. */
export type Report = PruneReport | HealReport | CompareReport | EvalReport;

/** What all reports begin with. */
export interface ReportHead {
  readonly schema: typeof REPORT_SCHEMA;
  /** What was done, in one sentence without paths. */
  readonly sentence: string;
  readonly repeat: Repeat;
  /** This package's name and version, and Node's. */
  readonly version: string;
  readonly node: string;
  /** When it was finished, ISO 8601. */
  readonly date: string;
  readonly model: ReportModel;
  readonly adapter: AdapterInfo;
  readonly warnings: readonly string[];
  /** In the order in which they began; together nearly all of `seconds`. */
  readonly phases: readonly Phase[];
  /** Device memory at the most. */
  readonly peakMemoryBytes: number;
  readonly seconds: number;
}

/** How to do it again. */
export interface Repeat {
  /** A line for a POSIX shell, or a call of the library in TypeScript. */
  readonly kind: 'command' | 'call';
  readonly text: string;
}

/** The model that was read. */
export interface ReportModel {
  /** Only the folder's name in a report that lies in a model folder. */
  readonly path: string;
  /** See `modelFingerprint`. */
  readonly fingerprint: string;
  readonly layers: number;
}

/** report.json of `prune`. */
export interface PruneReport extends ReportHead {
  readonly kind: 'prune';
  /** "keep 11, remove 12..18 (7 of 30 layers)" */
  readonly summary: string;
  readonly method: string;
  /** The paper the method comes from. */
  readonly source: string;
  readonly output: { readonly path: string; readonly layers: number; readonly keptLayers: readonly number[] };
  readonly selection: Omit<WindowChoice, 'map'>;
  /** Where the selection has measured windows. */
  readonly windowMap?: MeasuredWindows;
  /** The settings of the run, defaults filled in. */
  readonly recipe: RepairSettings &
    CalibrationSizes & {
      readonly mask?: number;
      readonly generate?: number;
      readonly faithful?: boolean;
      readonly dtype?: WeightDtype;
    };
  readonly calibration: ReportCalibration;
  /** The method's own numbers. */
  readonly fit: Readonly<Record<string, number | string>>;
  /** Training after the repair, where `heal.gradient` asks for it. */
  readonly healing?: HealingRecord;
  /** Of every ridge regression, in the order of the layers; empty where the method has none. */
  readonly ridgePaths: readonly RidgePath[];
  /** What was expected before it began, beside `peakMemoryBytes` and `seconds`. */
  readonly plan?: {
    readonly memory: PlannedMemory;
    readonly placement: Placement;
    readonly phases?: readonly PlannedPhase[];
  };
  /** What was written, loaded again, against the model in memory. */
  readonly verification: { readonly tokens: number; readonly maxLogitDifference: number };
  /** What was measured of the models; this and the plan's phases are absent where the report was switched off. */
  readonly evaluation?: PruneEvaluation;
  /** The same of an image encoder. */
  readonly imageEvaluation?: ImageEvaluation;
}

/** report.json of `heal`. */
export interface HealReport extends ReportHead {
  readonly kind: 'heal';
  /** The model before pruning, where one was given. */
  readonly teacher?: ReportModel;
  /** Where the model was pruned: its patched layers, and by layer that of the original it comes from. */
  readonly cut: { readonly patched: readonly number[]; readonly keptLayers: readonly number[] };
  /** The settings of the run, defaults filled in. */
  readonly recipe: HealingSettings & HealingSizes;
  /** Texts that it was trained on. */
  readonly data: ReportCalibration;
  readonly healing: HealingRecord;
  /** The held-out text by the weights as they were written, and beside the teacher where there is one. */
  readonly result: Evaluation;
  readonly output: { readonly path: string };
  readonly samples: readonly Sample[];
  /** The written folder, loaded again, against the model in memory. */
  readonly verification: { readonly tokens: number; readonly maxLogitDifference: number };
}

/** Texts that windows were chosen and layers fitted on. */
export interface ReportCalibration {
  readonly tokens: number;
  readonly sequences: number;
  readonly files: readonly CalibrationFile[];
}

/** report.json of `compare`. */
export interface CompareReport extends ReportHead {
  readonly kind: 'compare';
  readonly recipe: CalibrationSizes;
  readonly calibration: ReportCalibration;
  readonly evaluation: readonly { readonly file: string; readonly sha256: string; readonly tokens: number }[];
  /** The model as it is. */
  readonly dense: Measures;
  /** By number of layers, then by method, as asked for. Those with `refused` have no measures. */
  readonly rows: readonly ComparisonRow[];
  /** The windows up to the longest that any row has measured. */
  readonly windowMap?: MeasuredWindows;
  /** Of the dense model and of rows; absent where that was switched off. */
  readonly samples?: readonly Sample[];
}

/** report.json of `eval`. */
export interface EvalReport extends ReportHead {
  readonly kind: 'eval';
  /** The other model, if there was one. */
  readonly against?: ReportModel;
  readonly files: readonly FileEvaluation[];
  readonly tasks: readonly TaskEvaluation[];
  readonly samples?: readonly Sample[];
}

/** What `eval` has found on one file. */
export interface FileEvaluation extends Evaluation {
  readonly file: string;
}

/** What `eval` has found on one task. */
export interface TaskEvaluation {
  readonly task: string;
  readonly rows: number;
  readonly fewShot: number;
  readonly metrics: readonly TaskMetric[];
}

/** One metric of a task, e.g. "acc_norm". */
export interface TaskMetric {
  /** acc, acc_norm, perplexity, ... as lm-eval names them. */
  readonly metric: string;
  readonly value: number;
  readonly standardError?: number;
  /** What the other model comes to, if there was one. */
  readonly against?: number;
}

export type { FileScores, Measures } from '../../evaluation/modelMeasures.js';
export type { ComparisonRow, MeasuredRow, RefusedRow } from './comparison.js';
