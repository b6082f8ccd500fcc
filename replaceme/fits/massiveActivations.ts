import { MASSIVE } from '../../kernels/index.js';
import type { RunHooks } from '../run/runHooks.js';
import { lastRemoved, type Window } from '../run/window.js';

/**
 * Marks the tokens with a norm far above the median (Sun et al., Massive Activations in Large Language Models,
 * arXiv:2402.17762).
 */
export function massiveRows(norms: Float32Array): boolean[] {
  const median = [...norms].sort((a, b) => a - b)[Math.floor(norms.length / 2)] ?? 0;
  return Array.from(norms, norm => norm > MASSIVE * median);
}

/** Sums of squares over the tokens of a window (i, n), j = i + n, and the parts of tokens massive in L_i or L_j. */
export interface MassiveSums {
  massiveTokens: number;
  /** |L_j - L_i|² of these */
  massiveTargetSquares: number;
  /** |M|² of all tokens, M the MLP output of layer i, and of these */
  outputSquares: number;
  massiveOutputSquares: number;
}

interface SquareSums extends MassiveSums {
  readonly tokens: number;
  /** |L_j - L_i|² of all tokens */
  readonly targetSquares: number;
}

export const noMassiveSums = (): MassiveSums => ({
  ...{ massiveTokens: 0, massiveTargetSquares: 0 },
  ...{ outputSquares: 0, massiveOutputSquares: 0 },
});

/** Adds a batch's tokens, each of this weight, given the row norms of L_i, L_j, L_j - L_i and M. */
export function addMassive(
  sums: MassiveSums,
  norms: Readonly<Record<'layerOutput' | 'target' | 'change' | 'mlpOutput', Float32Array>>,
  weight: number,
): void {
  const [before, after] = [massiveRows(norms.layerOutput), massiveRows(norms.target)];
  for (const [t, norm] of norms.mlpOutput.entries()) {
    const square = weight * norm ** 2;
    sums.outputSquares += square;
    if (!before[t] && !after[t]) continue;
    sums.massiveTokens++;
    sums.massiveOutputSquares += square;
    sums.massiveTargetSquares += weight * norms.change[t]! ** 2;
  }
}

/**
 * What a user should know before least squares are fitted to this window: where tokens with massive activations have most
 * of the squares that it is to explain, and M does not tell these tokens from others, one map for all follows the few and
 * spoils the many. Undefined where that is not so.
 */
export function massiveWarning(
  window: Window,
  { massiveTokens, massiveTargetSquares, targetSquares, outputSquares, massiveOutputSquares }: SquareSums,
): string | undefined {
  if (massiveTargetSquares <= targetSquares / 2 || massiveOutputSquares >= outputSquares / 2)
    return undefined;
  const share = ((100 * massiveTargetSquares) / targetSquares).toFixed(1);
  const removed =
    window.count === 1 ? `layer ${window.layer + 1}` : `layers ${window.layer + 1} to ${lastRemoved(window)}`;
  return (
    `least squares will probably be worse than plain removal here: ${removed} build or end massive activations, and ` +
    `${massiveTokens} ${massiveTokens === 1 ? 'token' : 'tokens'} with them have ${share} % of the squared change to explain, ` +
    'so the fit follows these and spoils the others; choose the method refit, which weights tokens by 1/|L|, or other ' +
    'layers (the selection measured judges repaired models)'
  );
}

/** Tokens after which a first look is worth something. */
export const EARLY_TOKENS = 4096;

/** Tells the warning of a window once: early, from the sums so far, or from all of them before the fit. */
export function massiveWatch({ onNotice }: RunHooks, window: Window) {
  let told = false;
  const warnings = (sums: SquareSums): string[] => {
    const warning = massiveWarning(window, sums);
    if (warning === undefined) return [];
    if (!told) onNotice?.(warning);
    told = true;
    return [warning];
  };
  return {
    /** Looks at the sums so far, of `EARLY_TOKENS` tokens or more. */
    look: (sums: SquareSums): void => void warnings(sums),
    /** The warnings of the fit; none where the sums are of an earlier version, which did not count such tokens. */
    warnings: ({
      massive,
      ...sums
    }: Omit<SquareSums, keyof MassiveSums> & { massive: MassiveSums | undefined }) =>
      massive ? warnings({ ...sums, ...massive }) : [],
  };
}
