import { attentionCases } from './attention.js';
import { attentionBackwardCases } from './attentionBackward.js';
import { backwardCases } from './backward.js';
import { blockFormatCases } from './blockFormats.js';
import type { KernelCase } from './case.js';
import { elementwiseCases } from './elementwise.js';
import { embeddingCases } from './embedding.js';
import { expertCases } from './experts.js';
import { fittingCases } from './fitting.js';
import { gatedMatmulCases } from './gatedMatmul.js';
import { generatedCases } from './generated.js';
import { gramAndSolveCases } from './gramAndSolve.js';
import { batchCases, layoutCases } from './layout.js';
import { mapCases } from './map.js';
import { matmulCases } from './matmul.js';
import { normCases } from './norms.js';
import { packedRowCases } from './packedRows.js';
import { recurrenceCases } from './recurrence.js';
import { reduceCases } from './reduce.js';
import { reductionCases } from './reductions.js';
import { vocabularyCases } from './vocabulary.js';
import { vocabularyLossCases } from './vocabularyLoss.js';

export type { CaseVariant, KernelCase, PreparedCase } from './case.js';

/** All cases of all kernels: the tests compare each with its reference, `bench kernels` times those with `bench`. */
export const kernelCases: KernelCase[] = [
  ...matmulCases,
  ...gatedMatmulCases,
  ...embeddingCases,
  ...blockFormatCases,
  ...packedRowCases,
  ...normCases,
  ...attentionCases,
  ...elementwiseCases,
  ...expertCases,
  ...mapCases,
  ...generatedCases,
  ...reduceCases,
  ...layoutCases,
  ...batchCases,
  ...recurrenceCases,
  ...reductionCases,
  ...vocabularyCases,
  ...gramAndSolveCases,
  ...fittingCases,
  ...backwardCases,
  ...attentionBackwardCases,
  ...vocabularyLossCases,
];
