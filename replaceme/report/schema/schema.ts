import type { AdapterInfo } from '../../../engine/index.js';
import type { Evaluation, LeftOutRows, WeightDtype } from '../../../model/index.js';
import type { CalibrationFile } from '../../calibration/readCalibration.js';
import type { CalibrationSizes } from '../../calibration/sizes.js';
import type { Measures } from '../../evaluation/modelMeasures.js';
import type { EvaluatedText, ImageEvaluation, PruneEvaluation } from '../../evaluation/pruneEvaluation.js';
import type { Sample } from '../../evaluation/samples.js';
import type { Verdict } from '../../evaluation/verdict.js';
import type { RidgePath } from '../../fits/ridgePath.js';
import type { HealingRecord } from '../../healing/gradientHealing.js';
import type { HealingSettings, HealingSizes } from '../../healing/healingSettings.js';
import type { RepairSettings } from '../../methods/index.js';
import type { Placement } from '../../planning/memoryParts.js';
import type { PlannedMemory } from '../../planning/memoryPlan.js';
import type { PlannedPhase } from '../../planning/timePlan.js';
import type { Phase } from '../../run/phaseClock.js';
import type { ReportExtent } from '../../run/reportExtent.js';
import type { MeasuredWindows, WindowChoice } from '../../selections/index.js';
import type { ComparisonRow } from './comparison.js';

export type { DamagePoint } from '../../evaluation/layerDamage.js';
export type { PositionLoss } from '../../evaluation/positionLoss.js';
export type {
  DamageSeries,
  EvaluatedText,
  ImageEvaluation,
  ImageMeasures,
  LayerDamage,
  ModelMeasures,
  PruneEvaluation,
  Role,
} from '../../evaluation/pruneEvaluation.js';
export type { Continuation, Sample } from '../../evaluation/samples.js';
export type { RidgePath, RidgePoint } from '../../fits/ridgePath.js';
export type { HealingRecord } from '../../healing/gradientHealing.js';
export type { Phase, PhaseName } from '../../run/phaseClock.js';
export type { HeldOutPoint, TrainingStep } from '../../run/trainingRecord.js';
export type { MappedWindow, MeasuredWindows } from '../../selections/index.js';

/** The version of report.json; the number rises when a field changes its meaning or is removed. */
export const REPORT_SCHEMA = 'rm-engine-report/2';

/** The content of report.json; docs/report.schema.json describes it as a JSON Schema. Durations are in seconds. */
export type Report = PruneReport | HealReport | CompareReport | EvalReport;

/** The fields that all reports share. */
export interface ReportHead {
  readonly schema: typeof REPORT_SCHEMA;
  /** What was done, in one sentence without paths. */
  readonly sentence: string;
  readonly repeat: Repeat;
  /** This package's name and version, and Node's. */
  readonly version: string;
  readonly node: string;
  /** When the run finished, ISO 8601. */
  readonly date: string;
  readonly model: ReportModel;
  readonly adapter: AdapterInfo;
  readonly warnings: readonly string[];
  /** In the order in which they began; together they take nearly all of `seconds`. */
  readonly phases: readonly Phase[];
  /** Peak device memory. */
  readonly peakMemoryBytes: number;
  readonly seconds: number;
}

/** How to repeat the run. */
export interface Repeat {
  /** A line for a POSIX shell, or a call of the library in TypeScript. */
  readonly kind: 'command' | 'call';
  readonly text: string;
}

/** The input model. */
export interface ReportModel {
  /** The path; in a report inside a model folder only the folder's name. */
  readonly path: string;
  /** See `modelFingerprint`. */
  readonly fingerprint: string;
  readonly layers: number;
  /** True where the model reads images; absent where it reads text. */
  readonly images?: boolean;
}

/** report.json of `prune`. */
export interface PruneReport extends ReportHead {
  readonly kind: 'prune';
  /** "keep 11, remove 12..18 (7 of 30 layers)" */
  readonly summary: string;
  readonly method: string;
  /** The method's paper. */
  readonly source: string;
  readonly output: { readonly path: string; readonly layers: number; readonly keptLayers: readonly number[] };
  readonly selection: Omit<WindowChoice, 'map'>;
  /** The windows that the selection measured, if any. */
  readonly windowMap?: MeasuredWindows;
  /** The run's settings with defaults filled in. */
  readonly recipe: RepairSettings &
    CalibrationSizes & {
      readonly mask?: number;
      readonly generate?: number;
      readonly seed?: number;
      readonly faithful?: boolean;
      readonly dtype?: WeightDtype;
    } & Dated;
  readonly calibration: ReportCalibration;
  /** The method's numbers. */
  readonly fit: Readonly<Record<string, number | string>>;
  /** Healing by gradient after the repair. */
  readonly healing?: HealingRecord;
  /** One per ridge regression, by layer; empty where the method has none. */
  readonly ridgePaths: readonly RidgePath[];
  /** Estimates from before the run, to compare with `peakMemoryBytes` and `seconds`. */
  readonly plan?: {
    readonly memory: PlannedMemory;
    readonly placement: Placement;
    readonly phases: readonly PlannedPhase[];
  };
  /** Difference between the written model, loaded again, and the model in memory. */
  readonly verification: { readonly tokens: number; readonly maxLogitDifference: number };
  /** How much the model changed, and what may help; with `evaluation`. */
  readonly verdict?: Verdict;
  /** How much was measured, who chose that, and what is left out. */
  readonly extent: ReportExtent;
  /** Measures of the models; absent where `extent` is none. */
  readonly evaluation?: PruneEvaluation;
  /** Measures of an image encoder. */
  readonly imageEvaluation?: ImageEvaluation;
}

/** Part of a report about texts. */
export interface Dated {
  /** What the chat template took for the present; absent where it prints no date. */
  readonly date?: string;
}

/** report.json of `heal`. */
export interface HealReport extends ReportHead {
  readonly kind: 'heal';
  /** The model before pruning, if given. */
  readonly teacher?: ReportModel;
  /** Where the model was pruned: its patched layers, and each layer's index in the original model. */
  readonly cut: { readonly patched: readonly number[]; readonly keptLayers: readonly number[] };
  /** The run's settings with defaults filled in. */
  readonly recipe: HealingSettings & HealingSizes & Dated;
  /** The training texts. */
  readonly data: ReportCalibration;
  readonly healing: HealingRecord;
  /** Scores of the written weights on the held-out text, against the teacher if there is one. */
  readonly result: Evaluation;
  readonly output: { readonly path: string };
  readonly samples: readonly Sample[];
  /** Difference between the written folder, loaded again, and the model in memory. */
  readonly verification: { readonly tokens: number; readonly maxLogitDifference: number };
}

/** The calibration texts, or the training texts of healing. */
export interface ReportCalibration {
  readonly tokens: number;
  readonly sequences: number;
  readonly files: readonly CalibrationFile[];
}

/** report.json of `compare`. */
export interface CompareReport extends ReportHead {
  readonly kind: 'compare';
  readonly recipe: CalibrationSizes & Dated;
  readonly calibration: ReportCalibration;
  readonly evaluation: readonly {
    readonly file: string;
    readonly sha256: string;
    readonly tokens: number;
    /** Where the file was not given. */
    readonly origin?: EvaluatedText['origin'];
  }[];
  /** The unpruned model. */
  readonly dense: Measures;
  /** By number of layers, then by method, in the requested order. Rows with `refused` have no measures. */
  readonly rows: readonly ComparisonRow[];
  /** The largest window map that any row measured. */
  readonly windowMap?: MeasuredWindows;
  /** Samples of the dense model and of the rows; absent when switched off. */
  readonly samples?: readonly Sample[];
}

/** report.json of `eval`. */
export interface EvalReport extends ReportHead {
  readonly kind: 'eval';
  /** What the chat template took for the present; absent where it prints no date. */
  readonly templateDate?: string;
  /** The other model, if given. */
  readonly against?: ReportModel;
  readonly files: readonly FileEvaluation[];
  readonly tasks: readonly TaskEvaluation[];
  readonly samples?: readonly Sample[];
}

/** A model's scores on one file. */
export interface FileEvaluation extends Evaluation {
  readonly file: string;
  readonly leftOut?: LeftOutRows;
}

/** A model's scores on one task. */
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
  /** The other model's value, if one was given. */
  readonly against?: number;
}

export type { FileScores, Measures } from '../../evaluation/modelMeasures.js';
export type { ComparisonRow, MeasuredRow, RefusedRow } from './comparison.js';
