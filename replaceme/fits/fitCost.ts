import { sizeClass } from '../../engine/index.js';
import { type Architecture, hasOutNorms } from '../../model/index.js';
import type { Window } from '../run/window.js';
import { NORM_ROUNDS } from './fitThroughNorm.js';
import type { RepairSettings } from './repair.js';
import { RIDGES } from './ridgeStatistics.js';

/** A run as the cost of a fit depends on it. */
export interface FitRun {
  readonly arch: Architecture;
  readonly settings: RepairSettings;
  /** Undefined where a selection still has to find them. */
  readonly windows: readonly Window[] | undefined;
  /** Tokens that it fits to. */
  readonly tokens: number;
  /** FLOPs of one layer for one token. */
  readonly flopsPerToken: number;
}

/** Device memory in bytes: what a fit keeps while it goes over the tokens, and what solving takes besides. */
export interface FitBytes {
  readonly sums: number;
  readonly solve: number;
}

/** What the fits before one cut cost. */
export interface FitCost {
  /** One after the other. */
  readonly memory: readonly FitBytes[];
  /** Of the passes of the fitted layer over the tokens, the sums and the solves. */
  readonly flops: number;
  /** How many hidden states of all tokens it keeps, besides the layer's inputs and targets. */
  readonly streams?: number;
  /** Host memory in bytes, besides hidden states. */
  readonly host?: number;
  /** The projections that it refits on their inputs, which a walk then keeps. */
  readonly refits?: RefittedProjections;
}

/** Projections that a fit changes: words of o_proj's sums, 1 for f32, 2 for 48 bits, 0 where it stays; whether down_proj. */
export interface RefittedProjections {
  readonly attention: 0 | 1 | 2;
  readonly mlp: boolean;
}

/** kernels/solveSpd: columns that estimate errors, and tensors of as many columns. */
const PROBES = 32;
const PROBE_TENSORS = 14;

/** Passes over the tokens for one fit: a norm behind the projection takes several. */
const roundsOf = (arch: Architecture): number => (hasOutNorms(arch) ? NORM_ROUNDS : 1);

/** Least squares on the Gram matrix [hidden, hidden] of MLP outputs. */
export function leastSquaresCost({ arch, tokens, flopsPerToken }: FitRun): FitCost {
  const { hidden, intermediate } = arch;
  const square = sizeClass(4 * hidden * hidden);
  // Right-hand side, factor and solution in 48 bits, and what estimates the error of the solution; the sums go before
  // both f32 copies of W_down come.
  const probes = PROBE_TENSORS * sizeClass(4 * PROBES * hidden);
  const fold = square + 2 * sizeClass(4 * hidden * intermediate);
  return {
    memory: [{ sums: 4 * square, solve: Math.max(6 * square + probes, fold - 4 * square) }],
    flops: roundsOf(arch) * tokens * (flopsPerToken + 3 * hidden * hidden),
  };
}

/**
 * Of a ridge regression: G and C of two halves, in 48 bits twice; then the factor, the solution and a product. Behind a norm
 * the weight in f32 stays beside them.
 */
function ridgeBytes(arch: Architecture, inputs: number, words: 1 | 2 = 1): FitBytes {
  const [gram, cross] = [sizeClass(4 * inputs * inputs), sizeClass(4 * inputs * arch.hidden)];
  return { sums: 2 * words * (gram + cross), solve: gram + (hasOutNorms(arch) ? 4 : 3) * cross };
}

/** Ridges that are tried on the held-out half, and the one solve with all tokens. */
const RIDGE_SOLVES = RIDGES.length + 1;

const ridgeFlops = (tokens: number, inputs: number, outputs: number) =>
  2 * tokens * inputs * (inputs + outputs) + RIDGE_SOLVES * inputs * inputs * (inputs / 3 + 4 * outputs);

/** Ridge regressions of o_proj and down_proj of one layer, or of one of them. */
export function refitCost(
  { arch, tokens, flopsPerToken }: Omit<FitRun, 'settings' | 'windows'>,
  refits: RefittedProjections,
): FitCost {
  const { hidden, intermediate, heads, headDim } = arch;
  const attended = heads * headDim;
  const { attention, mlp } = refits;
  const inputs = [...(attention === 0 ? [] : [attended]), ...(mlp ? [intermediate] : [])];
  // The layer runs for the sums of each, and for its output.
  const round = inputs.map(count => tokens * flopsPerToken + ridgeFlops(tokens, count, hidden));
  return {
    memory: [
      ...(attention === 0 ? [] : [ridgeBytes(arch, attended, attention)]),
      ...(mlp ? [ridgeBytes(arch, intermediate)] : []),
    ],
    flops: roundsOf(arch) * round.reduce((sum, flops) => sum + flops, 0) + tokens * flopsPerToken,
    refits,
  };
}

/** Closed-form healing of one layer. */
export const healingCost = (run: FitRun): FitCost =>
  refitCost(run, { attention: 1, mlp: run.settings.heal !== 'o-proj' });
