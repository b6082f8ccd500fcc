import type { StepName } from './report.js';

/** Seconds of each step where the budget is 460 s; other budgets are divided in proportion. */
export const stepSeconds: Readonly<Record<StepName, number>> = {
  environment: 15,
  correctness: 80,
  peak: 45,
  kernels: 70,
  model: 70,
  solve: 50,
  prune: 110,
  stress: 20,
};

/** With less than this a step is skipped: it would only open the device. */
const LEAST_SECONDS = 0.5;
/** A process is ended so long after its step should have begun nothing more. */
const GRACE_SECONDS = 20;
const GRACE_SHARE = 0.5;

/**
 * The seconds of the first of these steps, of what is left of the budget: what earlier steps did not need goes to the later
 * ones. Undefined where too little is left.
 */
export function nextShare(left: number, steps: readonly StepName[]): number | undefined {
  const sum = steps.reduce((total, step) => total + stepSeconds[step], 0);
  const share = (left * stepSeconds[steps[0]!]) / sum;
  return share >= LEAST_SECONDS ? share : undefined;
}

/**
 * How long a step may still be at what it began before its seconds were over. Where it has not even said a word meanwhile,
 * the driver hangs; else it is only slow.
 */
export const graceOf = (seconds: number): number => Math.max(GRACE_SECONDS, GRACE_SHARE * seconds);
