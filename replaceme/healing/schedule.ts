/** What a learning rate follows over a run. */
export interface Schedule {
  /** At its highest. */
  readonly learningRate: number;
  readonly steps: number;
  /** Steps until it gets there. */
  readonly warmup: number;
}

/**
 * The learning rate of step `step` (from 1): linear from learningRate / (warmup + 1) up, then along half a cosine
 * towards 0, which the step after the last would have.
 *
 * Source: Loshchilov and Hutter, SGDR (arXiv:1608.03983, Eq. 5), one period.
 */
export function learningRateAt(step: number, { learningRate, steps, warmup }: Schedule): number {
  if (step <= warmup) return (learningRate * step) / (warmup + 1);
  const share = (step - 1 - warmup) / Math.max(1, steps - warmup);
  return (learningRate * (1 + Math.cos(Math.PI * share))) / 2;
}
