export { type AttentionOptions, attention } from './attention/attention.js';
export { padHeads } from './attention/padHeads.js';
export {
  type AttentionGradients,
  type AttentionTensors,
  attentionBackward,
} from './attentionBackward/attentionBackward.js';
export type { Matrix } from './blockProduct/blockProduct.js';
export {
  type ActivationBackwardOptions,
  activationBackward,
  gatedActivationBackward,
} from './elementwise/activationBackward.js';
export { type AdamOptions, type AdamTensors, adam } from './elementwise/adam.js';
export { type BlockFormat, blockBytes, blockFormats, dequantize } from './elementwise/dequantize.js';
export {
  type CodeFormat,
  codeBits,
  dequantizeRows,
  type PackedRows,
  recordBytes,
  recordWords,
} from './elementwise/dequantizeRows.js';
export { type RandomOptions, random } from './elementwise/random.js';
export { type RopeOptions, rope, ropeTable } from './embedding/rope.js';
export { type TopExpertsOptions, topExperts } from './experts/topExperts.js';
export { crossGram } from './gram/crossGram.js';
export { gram } from './gram/gram.js';
export type { OuterProductsOptions } from './gram/outerProducts.js';
export { embedding, gatherRows } from './layout/gatherRows.js';
export { concat, slice, transpose } from './layout/layout.js';
export { embeddingBackward, scatterAddRows } from './layout/scatterAddRows.js';
export { type MapInputs, map } from './map/map.js';
export { add, addInto, axpy, convert, fill, scale, scaleRows, softcap } from './map/named.js';
export type { MatmulChoice, MatmulShape, MatrixUnit, OperandTypes } from './matmul/builtInChoice.js';
export { type GatedMatmulOptions, gatedMatmul } from './matmul/gatedMatmul.js';
export { type MatmulOptions, matmul, matmulName, matmulVariants } from './matmul/matmul.js';
export type { MatrixTile } from './matmul/matrixTiles.js';
export type { MatmulDevice } from './matmul/variants.js';
export { layerNorm } from './norms/layerNorm.js';
export {
  type LayerNormBackwardOptions,
  layerNormBackward,
  type NormBackwardOptions,
  rmsNormBackward,
} from './norms/normBackward.js';
export { rmsNorm } from './norms/rmsNorm.js';
export type { SequenceRows } from './recurrence/sequenceRows.js';
export { addSquaredNorm, type ColumnSumsOptions, columnSums, rowDots } from './reduce/named.js';
export type { CustomReduction, Reduction } from './reduce/operations.js';
export { type Elements, type ReduceOptions, reduce } from './reduce/reduce.js';
export { logSoftmax, softmax } from './reduce/softmax.js';
export { topK } from './reduce/topK.js';
export { argmax } from './reductions/argmax.js';
export { cosineDistance } from './reductions/cosineDistance.js';
export { cosineLoss } from './reductions/cosineLoss.js';
export { countNonFinite } from './reductions/countNonFinite.js';
export { rowNorms } from './reductions/rowNorms.js';
export type { Activation } from './shared/activation.js';
export type { FloatType } from './shared/checks.js';
export {
  clearDoubleSingle,
  createDoubleSingle,
  type DoubleSingle,
  disposeDoubleSingle,
  downloadF64,
  uploadF64,
} from './shared/doubleSingle.js';
export { type FlatKernel, flatProgram, flatType, runFlat } from './shared/flat.js';
export { ROW_LANES, type RowKernel, rowProgram, runRows } from './shared/rows.js';
export { type RowTile, rowTiles } from './shared/rowTiles.js';
export { scalarTensor, vec4Tensor } from './shared/wgsl.js';
export { workgroupReduction } from './shared/workgroup.js';
export { addDiagonal } from './solve/addDiagonal.js';
export { type CholeskyFactor, type CholeskyOptions, cholesky } from './solve/cholesky.js';
export { type PolarFactor, polar } from './solve/polar.js';
export { solveResidual } from './solve/solveResidual.js';
export {
  quadraticLoss,
  type RidgePathOptions,
  type RidgeSolution,
  solveRidgePath,
} from './solve/solveRidge.js';
export {
  type Solution,
  type SolveOptions,
  type SolveReport,
  solveSpd,
  solveSpdPath,
} from './solve/solveSpd.js';
export { symmetrize } from './solve/symmetrize.js';
export { triangularSolve } from './solve/triangularSolve.js';
export { compareDistributions, type DistributionComparison } from './vocabulary/compareDistributions.js';
export { crossEntropyLoss } from './vocabulary/crossEntropyLoss.js';
export { klLoss } from './vocabulary/klLoss.js';
export { type LogitForm, logitTile } from './vocabulary/logitTile.js';
export { type LogLikelihoodOptions, logLikelihood } from './vocabulary/logLikelihood.js';
export { type SampleOptions, sampleTokens } from './vocabulary/sampleTokens.js';
export { type TopProbabilities, topKlLoss } from './vocabulary/topKlLoss.js';
export { topLogProbabilities } from './vocabulary/topLogProbabilities.js';
export type { LossGradients, Predictions } from './vocabulary/vocabularyPasses.js';
