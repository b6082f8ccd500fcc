/** The schedule of a run's learning rate. */
export interface Schedule {
  /** The peak. */
  readonly learningRate: number;
  readonly steps: number;
  /** Number of steps before the peak. */
  readonly warmup: number;
}

/**
 * The learning rate of step `step` (from 1): rises linearly from learningRate / (warmup + 1), then falls along half a
 * cosine towards 0, which it would reach one step after the last.
 *
 * Source: Loshchilov and Hutter, SGDR (arXiv:1608.03983, Eq. 5), one period.
 */
export function learningRateAt(step: number, { learningRate, steps, warmup }: Schedule): number {
  if (step <= warmup) return (learningRate * step) / (warmup + 1);
  const share = (step - 1 - warmup) / Math.max(1, steps - warmup);
  return (learningRate * (1 + Math.cos(Math.PI * share))) / 2;
}
