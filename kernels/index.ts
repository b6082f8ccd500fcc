export { blockProductVariants } from './blockProduct/blockProduct.js';
export { largeProduct } from './blockProduct/largeProduct.js';
export { type CheckedVariant, checkCase } from './cases/checkCase.js';
export { normals } from './cases/data.js';
export { type CaseVariant, type KernelCase, kernelCases, type PreparedCase } from './cases/index.js';
export { outlierSums } from './cases/outlierSums.js';
export { checkSampledCase, type PreparedSample, type SampledCase } from './cases/sampled.js';
export {
  type SampledProduct,
  sampledAdd,
  sampledAttention,
  sampledGatedMatmul,
  sampledGram,
  sampledMatmul,
  sampledRmsNorm,
} from './cases/sampledCases.js';
export { type TuningCase, tuningCases } from './cases/tuning.js';
export { variantChecks } from './cases/variantChecks.js';
export { addTransposed } from './elementwise/addTransposed.js';
export { xielu, xieluBackward, xieluSlopeBy } from './elementwise/xielu.js';
export { addExperts } from './experts/addExperts.js';
export { type ExpertRows, groupByExpert } from './experts/groupByExpert.js';
export { chooseGatedMatmul, chooseMatmul } from './matmul/builtInChoice.js';
export { groupedGatedMatmul, groupedMatmul } from './matmul/groupedMatmul.js';
export { type FactorTypes, type ProductExtents, partsOf, productsOf } from './matmul/matrixTiles.js';
export { normDivisors } from './norms/normDivisors.js';
export * from './public.js';
export { causalConv } from './recurrence/causalConv.js';
export { gatedDelta } from './recurrence/gatedDelta.js';
export { NOT_FINITE } from './reductions/argmax.js';
export { meanMagnitudes } from './reductions/meanMagnitudes.js';
export { MASSIVE, type TokenRootsOptions, tokenRoots } from './reductions/tokenRoots.js';
export { checkVariants, isWrong, type Verdicts, verdictsForm, verdictsOf } from './shared/trustedVariants.js';
export { type Tuning, tuningOf } from './shared/tunedVariants.js';
export { flatBuiltins, flatGroup, lines } from './shared/wgsl.js';
export { downloadDiagonal } from './solve/equilibration.js';
export { quadraticLosses } from './solve/solveRidge.js';
export { solveFactored } from './solve/triangularSolve.js';
