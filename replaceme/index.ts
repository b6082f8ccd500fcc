export { EXACT, exactSums, PRECISE, REFINEMENTS, ridgeSolve } from './fits/fitCost.js';
export { cardOf, cards } from './planning/cards.js';
export {
  attentionSeconds,
  compilerOf,
  exactSumsSeconds,
  ISSUED,
  MATRIX_SHARE,
  MEMORY_SHARE,
  productSeconds,
  rowsSeconds,
  solveSeconds,
} from './planning/deviceSpeed.js';
export { multiplyAddShares } from './planning/hotLoops.js';
export { layerSeconds, prefillSeconds, tokenSeconds } from './planning/layerSpeed.js';
export * from './public.js';
export { markdownTable } from './report/text/textTable.js';
export { layerFlops, layerFlopsPerToken } from './run/computeRate.js';
