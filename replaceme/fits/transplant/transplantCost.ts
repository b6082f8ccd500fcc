import { sizeClass } from '../../../engine/index.js';
import { type FitCost, type FitRun, refitCost } from '../fitCost.js';

/** A refit, and before it a fit of the rows of gate and up of every layer of the window. */
export function transplantCost(run: FitRun): FitCost {
  const { arch, tokens, windows, flopsPerToken } = run;
  const { hidden, intermediate } = arch;
  const refit = refitCost(run, 2);
  const layers = 1 + (windows ? Math.max(...windows.map(({ count }) => count)) : arch.layers / 4);
  const [gram, rows] = [sizeClass(4 * hidden * hidden), sizeClass(4 * hidden * intermediate)];
  return {
    ...refit,
    // Sums of both halves for gate and up, and the rows themselves; solving takes a factor and two solutions.
    memory: [...refit.memory, { sums: 4 * (gram + rows) + 2 * rows, solve: gram + 3 * rows }],
    flops: refit.flops + layers * tokens * (flopsPerToken + 4 * hidden * (hidden + 3 * intermediate)),
  };
}
