import { sizeClass } from '../../../engine/index.js';
import { type FitCost, type FitRun, refitCost } from '../fitCost.js';
import { BLOCKS } from './pursuit.js';
import { COMPARED_TOKENS } from './transplantNeurons.js';

/** A refit, and before it a fit of the rows of gate and up of every layer of the window, and the choice of neurons. */
export function transplantCost(run: FitRun): FitCost {
  const { arch, tokens, windows, settings, layer } = run;
  const { hidden, intermediate } = arch;
  const refit = refitCost(run, { attention: 2, mlp: true });
  const layers = 1 + (windows ? Math.max(...windows.map(({ count }) => count)) : arch.layers / 4);
  const [gram, rows] = [sizeClass(4 * hidden * hidden), sizeClass(4 * hidden * intermediate)];
  const pursues = settings.neurons === 'omp';
  const compared = Math.min(tokens, COMPARED_TOKENS);
  // Of the kept layer's neurons, or of all candidates: gate, up and down in f32.
  const host = 3 * 4 * hidden * intermediate * (pursues ? layers : 2);
  const wide = sizeClass(4 * intermediate * intermediate);
  return {
    ...refit,
    memory: [
      ...refit.memory,
      // Sums of both halves for gate and up, and the rows themselves; solving takes a factor and two solutions.
      { sums: 4 * (gram + rows) + 2 * rows, solve: gram + 3 * rows },
      // Sums of the chosen neurons and their rows, what is wanted and what is left of it; then the rows of a layer, and products.
      ...(pursues
        ? [{ sums: 2 * (wide + rows) + 2 * rows + 2 * 4 * compared * hidden, solve: wide + 3 * rows }]
        : []),
    ],
    flops:
      refit.flops +
      layers * tokens * (layer.all + 4 * hidden * (hidden + 3 * intermediate)) +
      (pursues ? pursuitFlops(arch, layers, compared) : 0),
    // Walks through the window, and what the MLP reads.
    streams: 2,
    host,
  };
}

/** For every block the features of all candidates and their products with what is left; those of the chosen, their sums and solve. */
function pursuitFlops({ hidden, intermediate }: FitRun['arch'], layers: number, tokens: number): number {
  const features = 4 * hidden * intermediate * tokens;
  const products = 2 * hidden * intermediate * tokens;
  // The chosen are half of all on average, a third by squares and a quarter by cubes.
  const chosen = features + (2 * intermediate ** 2 * tokens) / 3 + products + intermediate ** 3 / 12;
  return BLOCKS * (layers * (features + products) + chosen);
}
