import { sizeClass } from '../../engine/index.js';
import {
  type Architecture,
  attendedColumns,
  type Experts,
  hasOutNorms,
  mostFeatures,
} from '../../model/index.js';
import type { LayerFlops } from '../run/computeRate.js';
import type { Window } from '../run/window.js';
import { NORM_ROUNDS } from './fitThroughNorm.js';
import { KEPT_BYTES } from './refitPass.js';
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
  readonly layer: LayerFlops;
  /** Whether what a layer computes for all tokens is kept between passes through it. */
  readonly keepsInner: boolean;
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
export function leastSquaresCost({ arch, tokens, layer }: FitRun): FitCost {
  const { hidden, intermediate, experts } = arch;
  const square = sizeClass(4 * hidden * hidden);
  // Right-hand side, factor and solution in 48 bits, and what estimates the error of the solution; the sums go before
  // both f32 copies of W_down come: of experts one at a time beside the folded ones.
  const probes = PROBE_TENSORS * sizeClass(4 * PROBES * hidden);
  const copies = experts
    ? 3 * sizeClass(4 * hidden * Math.max(experts.features, experts.shared, experts.dense))
    : sizeClass(4 * hidden * intermediate);
  const fold = square + sizeClass(4 * hidden * mostFeatures(arch)) + copies;
  return {
    memory: [{ sums: 4 * square, solve: Math.max(6 * square + probes, fold - 4 * square) }],
    flops:
      roundsOf(arch) * tokens * (layer.all + exactSums(hidden, hidden)) + REFINEMENTS * PRECISE * hidden ** 3,
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

/** The same for all experts of a layer, whose changes wait for each other. */
function expertRidgeBytes(arch: Architecture, { count, features, shared }: Experts): FitBytes {
  const widths = [...new Array<number>(count).fill(features), ...(shared > 0 ? [shared] : [])];
  const each = widths.map(width => ridgeBytes(arch, width));
  const changes = widths.reduce((sum, width) => sum + sizeClass(4 * width * arch.hidden), 0);
  return {
    sums: each.reduce((sum, { sums }) => sum + sums, 0),
    solve: Math.max(...each.map(({ solve }) => solve)) + changes,
  };
}

/** Ridge regression of down_proj, of the widest layer: memory, FLOPs of the sums for one token, and of the solves. */
function downCost(arch: Architecture): { memory: FitBytes; perToken: number; solves: number } {
  const { experts, intermediate, hidden } = arch;
  if (!experts) {
    return {
      memory: ridgeBytes(arch, intermediate),
      perToken: plainSums(intermediate, hidden),
      solves: ridgeSolves(intermediate, hidden),
    };
  }
  const { count, perToken, features, shared, dense } = experts;
  // All ridges are tried for each expert.
  const tried = (RIDGES.length + 1) / RIDGE_SOLVES;
  const ofAll = expertRidgeBytes(arch, experts);
  const hasDense = arch.tensorNames.layers.some(({ router }) => !router);
  const ofDense = hasDense ? ridgeBytes(arch, dense) : { sums: 0, solve: 0 };
  return {
    memory: {
      sums: Math.max(ofAll.sums, ofDense.sums),
      solve: Math.max(ofAll.solve, ofDense.solve),
    },
    perToken: perToken * plainSums(features, hidden) + plainSums(shared, hidden),
    solves: tried * (count * ridgeSolves(features, hidden) + ridgeSolves(shared, hidden)),
  };
}

/** Of the ridges, largest first, those that are tried until one is worse, mostly; and the one solve with all tokens. */
const RIDGE_SOLVES = Math.min(RIDGES.length, 3) + 1;
/** Operations for a term of a sum in 48 bits (kernels/gram), and of a residual (kernels/blockProduct). */
export const EXACT = 6.1;
export const PRECISE = 55;
/** Residuals of a solution in 48 bits. */
export const REFINEMENTS = 3;

/** Of one token: the lower triangle of G, and C, in 48 bits. */
export const exactSums = (inputs: number, outputs: number) => EXACT * inputs * (inputs / 2 + outputs);
/** The same in f32. */
const plainSums = (inputs: number, outputs: number) => 2 * inputs * (inputs / 2 + outputs);

/** Of one ridge: a factor and the solution of two triangular systems. */
export const ridgeSolve = (inputs: number, outputs: number) => inputs * inputs * (inputs / 3 + 4 * outputs);

const ridgeSolves = (inputs: number, outputs: number) => RIDGE_SOLVES * ridgeSolve(inputs, outputs);

/**
 * Ridge regressions of o_proj and down_proj of one layer, or of one of them, and its outputs with the new weights.
 *
 * @param targets where o_proj's sums end: at the layer's output, or after the attention.
 */
export function refitCost(
  { arch, tokens, layer, keepsInner }: Omit<FitRun, 'settings' | 'windows'>,
  refits: RefittedProjections,
  targets: 'output' | 'after attention' = 'output',
): FitCost {
  const { hidden, intermediate } = arch;
  const attendedSize = attendedColumns(arch);
  const down = downCost(arch);
  const { attention, mlp } = refits;
  const { attended, attentionOutput, features, mlpOutput } = layer;
  // A pass takes what an earlier one kept.
  const rest = features + mlpOutput;
  const oProj = attended + (targets === 'output' ? attentionOutput + rest : 0);
  const again = attention > 0 && keepsInner ? 0 : attended;
  const downProj = again + attentionOutput + rest;
  const keepsFeatures = keepsInner && 4 * tokens * intermediate <= KEPT_BYTES;
  const output =
    (mlp && keepsInner ? 0 : again + attentionOutput) + (mlp && keepsFeatures ? 0 : features) + mlpOutput;
  const sums = attention === 1 ? plainSums : exactSums;
  const perToken =
    (attention === 0 ? 0 : oProj + sums(attendedSize, hidden)) + (mlp ? downProj + down.perToken : 0);
  const solves = (attention === 0 ? 0 : ridgeSolves(attendedSize, hidden)) + (mlp ? down.solves : 0);
  return {
    memory: [
      ...(attention === 0 ? [] : [ridgeBytes(arch, attendedSize, attention)]),
      ...(mlp ? [down.memory] : []),
    ],
    flops: roundsOf(arch) * (tokens * perToken + solves) + tokens * output,
    refits,
  };
}

/** Closed-form healing of one layer. */
export const healingCost = (run: FitRun): FitCost =>
  refitCost(run, { attention: 1, mlp: run.settings.heal !== 'o-proj' }, 'after attention');
