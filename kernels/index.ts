export type { Activation } from './activation.js';
export {
  type ActivationBackwardOptions,
  activationBackward,
  gatedActivationBackward,
} from './activationBackward.js';
export { type AdamOptions, type AdamTensors, adam } from './adam.js';
export { addDiagonal } from './addDiagonal.js';
export { argmax } from './argmax.js';
export { type AttentionOptions, type AttentionVariant, attention } from './attention.js';
export {
  type AttentionGradients,
  type AttentionTensors,
  attentionBackward,
} from './attentionBackward.js';
export type { BlockProductVariant, Matrix } from './blockProduct.js';
export { type CaseVariant, type KernelCase, kernelCases, type PreparedCase } from './cases/index.js';
export { type CholeskyFactor, type CholeskyOptions, cholesky } from './cholesky.js';
export { type ColumnSumsOptions, columnSums } from './columnSums.js';
export { compareDistributions, type DistributionComparison } from './compareDistributions.js';
export { convert } from './convert.js';
export { cosineDistance } from './cosineDistance.js';
export { cosineLoss } from './cosineLoss.js';
export { cross } from './cross.js';
export { crossEntropyLoss } from './crossEntropyLoss.js';
export { type BlockFormat, blockBytes, blockFormats, dequantize } from './dequantize.js';
export {
  clearDoubleSingle,
  createDoubleSingle,
  type DoubleSingle,
  disposeDoubleSingle,
  downloadF64,
  uploadF64,
} from './doubleSingle.js';
export { add, addInto, axpy, scale } from './elementwise.js';
export { embedding } from './embedding.js';
export { embeddingBackward } from './embeddingBackward.js';
export { countNonFinite } from './finite.js';
export { type FlatKernel, flatProgram, flatType, runFlat } from './flat.js';
export { type GatedMatmulOptions, gatedMatmul } from './gatedMatmul.js';
export { gram } from './gram.js';
export { headColumns } from './headColumns.js';
export { klLoss } from './klLoss.js';
export { layerNorm } from './layerNorm.js';
export { type LogitForm, logitTile } from './logitTile.js';
export { type LogLikelihoodOptions, logLikelihood } from './logLikelihood.js';
export { type MatmulOptions, matmul } from './matmul.js';
export { mirrorLower } from './mirrorLower.js';
export { layerNormBackward, type NormBackwardOptions, rmsNormBackward } from './normBackward.js';
export type { OuterProductsOptions } from './outerProducts.js';
export { type PolarFactor, polar } from './polar.js';
export { rowMaxima, rowNorms, rowSums } from './reduce.js';
export { residual } from './residual.js';
export { rmsNorm } from './rmsNorm.js';
export { type RopeOptions, rope, ropeTable } from './rope.js';
export { ROW_LANES, type RowKernel, rowProgram, runRows } from './rows.js';
export { type RowTile, rowTiles } from './rowTiles.js';
export { scaleRows } from './scaleRows.js';
export { softcap } from './softcap.js';
export { quadraticLoss, type RidgePathOptions, type RidgeSolution, solveRidgePath } from './solveRidge.js';
export { type Solution, type SolveOptions, type SolveReport, solveSpd, solveSpdPath } from './solveSpd.js';
export { addSquaredNorm } from './squaredNorm.js';
export { topExperts } from './topExperts.js';
export { type TopProbabilities, topKlLoss } from './topKlLoss.js';
export { topLogProbabilities } from './topLogProbabilities.js';
export { triangularSolve } from './triangularSolve.js';
export type { MatmulChoice, MatrixExtents, OuterProductsChoice } from './tuning.js';
export type { LossGradients, Predictions } from './vocabularyPasses.js';
export { scalarTensor, vec4Tensor } from './wgsl.js';
export { workgroupReduction } from './workgroup.js';
