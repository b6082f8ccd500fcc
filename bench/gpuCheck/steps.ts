import { correctnessStep } from './correctness.js';
import { environmentStep } from './environment.js';
import { kernelsStep } from './kernelsStep.js';
import { modelStep } from './modelStep.js';
import { peakStep } from './peakStep.js';
import { pruneStep } from './pruneStep.js';
import type { StepName } from './report.js';
import { solveStep } from './solveStep.js';
import type { Step } from './stepRun.js';
import { stressStep } from './stressStep.js';

/** The steps by name. */
export const steps: Readonly<Record<StepName, Step>> = {
  environment: environmentStep,
  correctness: correctnessStep,
  peak: peakStep,
  kernels: kernelsStep,
  model: modelStep,
  solve: solveStep,
  prune: pruneStep,
  stress: stressStep,
};
