export { shippedPath } from '../model/index.js';
export { type AccumulatedStatistics, type AccumulateOptions, accumulateStatistics } from './accumulate.js';
export type { HiddenStates, Sequences } from './activations/hiddenStates.js';
export type { CalibrationBatch } from './calibration/calibrationBatch.js';
export type { CalibrationSequence } from './calibration/collectSequences.js';
export {
  type Calibration,
  type CalibrationFile,
  type CalibrationOptions,
  readCalibration,
  shippedCalibration,
} from './calibration/readCalibration.js';
export type { CalibrationSizes } from './calibration/sizes.js';
export {
  type Candidate,
  type CompareOptions,
  type CompareRequest,
  checkCompareRequest,
  usualMethods,
} from './compare/request.js';
export { bestRows, type Compared, formatComparison } from './compare/table.js';
export { compare } from './compare.js';
export type { EvaluationText } from './evaluation/evaluationText.js';
export type { Band, Verdict } from './evaluation/verdict.js';
export type { FitBytes, FitCost, FitRun, RefittedProjections } from './fits/fitCost.js';
export { heal } from './heal.js';
export type { HealingFlops, HealingMemory } from './healing/healingCost.js';
export { type HealingPlan, planHealing } from './healing/healingPlan.js';
export type { HealingSettings, HealingSizes, TrainingRequest } from './healing/healingSettings.js';
export { checkHealRequest, type HealRequest } from './healing/healRequest.js';
export type { Cut } from './healing/patchedLayers.js';
export {
  type AccumulateContext,
  type Method,
  methods,
  type Repair,
  type RepairContext,
  type RepairDetails,
  type RepairSettings,
} from './methods/index.js';
export type { ClosedFormHealing, GradientHealingOptions, PruneHealing } from './options/healingWords.js';
export type { HealOptions } from './options/healSettings.js';
export type { CosineSettings, MethodOptions, PruneOptions } from './options/pruneOptions.js';
export type { DeclaredSetting, Description, Setting } from './options/setting.js';
export type { HealingObjective, TrainingOptions, TrainMode } from './options/trainingSettings.js';
export type { ValueType } from './options/valueTypes.js';
export type { AssumedDevice, DescribedDevice } from './planning/assumedDevice.js';
export type { Card } from './planning/cards.js';
export type { DeviceSpeed } from './planning/deviceSpeed.js';
export type { Placement } from './planning/memoryParts.js';
export type { PlannedMemory } from './planning/memoryPlan.js';
export { type PlanOptions, type PrunePlan, planPrune } from './planning/plan.js';
export type { PlannedPhase, PlannedRates } from './planning/timePlan.js';
export { prune } from './prune.js';
export type * from './report/schema/schema.js';
export { REPORT_SCHEMA } from './report/schema/schema.js';
export type { DamageBudget } from './request/layerBudget.js';
export type { OwnPruneOptions } from './request/ownStrategies.js';
export { checkPruneRequest, type PruneRequest } from './request/request.js';
export type { LayerFlops } from './run/computeRate.js';
export type { PaceStore, Paces } from './run/paces.js';
export type { PhaseClock } from './run/phaseClock.js';
export type { Extent, ReportExtent } from './run/reportExtent.js';
export type { RunHooks as WalkOptions } from './run/runHooks.js';
export { describeWindows, keptLayers, type Window } from './run/window.js';
export {
  type DistanceSums,
  type JudgingRounds,
  type LayerSearch,
  type MeasuredWindows,
  type MeasureSettings,
  type Selection,
  type SelectionContext,
  type SelectionPlan,
  type SelectionTokens,
  selections,
  type WindowChoice,
  type WindowScores,
} from './selections/index.js';
export { type MergedStatistics, mergeStatistics } from './statistics/mergeStatistics.js';
export type { Shard } from './statistics/shard.js';
export type { RowSums, StatisticsStore, Sums, SumsKey } from './statistics/statisticsStore.js';
export { type DistanceMeasure, type DistanceOptions, windowDistances } from './windowMap/windowDistances.js';
export {
  type WindowMap,
  type WindowMapOptions,
  type WindowMeasure,
  windowMap,
} from './windowMap/windowMap.js';
