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

/**
 * The same on a software adapter: its sizes are small but it compiles every kernel for long, and that is what correctness does.
 */
const softwareSeconds: Readonly<Record<StepName, number>> = {
  environment: 15,
  correctness: 240,
  peak: 20,
  kernels: 20,
  model: 25,
  solve: 25,
  prune: 95,
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
export function nextShare(
  left: number,
  steps: readonly StepName[],
  shares: Readonly<Record<StepName, number>> = stepSeconds,
): number | undefined {
  const sum = steps.reduce((total, step) => total + shares[step], 0);
  const share = (left * shares[steps[0]!]) / sum;
  return share >= LEAST_SECONDS ? share : undefined;
}

/** Of a budget of 480 s, 15 s are kept for each later step; in the last 2 s of its time a step begins nothing more. */
const KEPT_SHARE = 1 / 32;
/** From this budget on it is kept; a smaller one, which would cut every step, may be exceeded by up to `GRACE_SECONDS`. */
const KEPT_BUDGET = 480;
const ENDING_SECONDS = 2;

/** Seconds of a step, and how many more until it is ended. */
export interface StepTime {
  readonly seconds: number;
  readonly grace: number;
}

/**
 * The time of the first of these steps on a software adapter, which may be so slow that steps must be ended: the check keeps its
 * budget, and each later step has some of it. Undefined where too little is left.
 */
export function softwareTime(budget: number, left: number, steps: readonly StepName[]): StepTime | undefined {
  const share = nextShare(left, steps, softwareSeconds);
  if (share === undefined) return undefined;
  const beyond = GRACE_SECONDS * Math.max(0, 1 - budget / KEPT_BUDGET);
  const latest = left + beyond - KEPT_SHARE * budget * (steps.length - 1);
  const seconds = Math.max(LEAST_SECONDS, Math.min(share, latest - ENDING_SECONDS));
  return { seconds, grace: Math.max(ENDING_SECONDS, Math.min(graceOf(seconds), latest - seconds)) };
}

/**
 * How long a step may still be at what it began before its seconds were over. Where it has not even said a word meanwhile,
 * the driver hangs; else it is only slow.
 */
export const graceOf = (seconds: number): number => Math.max(GRACE_SECONDS, GRACE_SHARE * seconds);
