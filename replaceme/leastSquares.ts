import { type Device, downloadF32, Scope, Tensor } from '../engine/index.js';
import { requireExactArithmetic } from '../engine/selftest.js';
import { addDiagonal } from '../kernels/addDiagonal.js';
import { cross } from '../kernels/cross.js';
import {
  clearDoubleSingle,
  createDoubleSingle,
  type DoubleSingle,
  downloadF64,
} from '../kernels/doubleSingle.js';
import { axpy } from '../kernels/elementwise.js';
import { gram } from '../kernels/gram.js';
import { mirrorLower } from '../kernels/mirrorLower.js';
import { rowNorms } from '../kernels/reduce.js';
import { type SolveReport, solveSpd } from '../kernels/solveSpd.js';
import { Batch, totalTokens } from '../model/batch.js';
import type { Model } from '../model/model.js';
import { forward } from '../model/transformer.js';
import type { WalkOptions } from './distance.js';
import type { HiddenStates } from './hiddenStates.js';
import { lastRemoved, type Window } from './window.js';

/**
 * Sums over calibration tokens for one window (i, n), j = i + n. The right-hand side is taken against L_i instead of
 * Y_i, so that the small change Delta = T - I is fitted: less cancellation, same T.
 */
export interface LeastSquaresStatistics {
  readonly tokens: number;
  /** G = MᵀM, M = MLP output of layer i [hidden, hidden]. */
  readonly gram: DoubleSingle;
  /** C = Mᵀ(L_j - L_i) [hidden, hidden]. */
  readonly cross: DoubleSingle;
  /** |L_j - L_i|² summed over tokens. */
  readonly targetSquares: number;
  dispose(): void;
}

/**
 * Runs layers 0 .. i+n over all batches (no logits) and accumulates the statistics of the window. Over batches whose
 * hidden states `states` has kept only layer i runs; they are used up.
 */
export async function leastSquaresStatistics(
  model: Model,
  batches: readonly (readonly (readonly number[])[])[],
  window: Window,
  { states, ...options }: WalkOptions & { states?: HiddenStates | undefined } = {},
): Promise<LeastSquaresStatistics> {
  const { device, arch } = model;
  using _section = device.section('statistics');
  // Before the long walk, not only in the solve after it.
  await requireExactArithmetic(device);
  const rec = device.recorder;
  const accumulators = new Scope(device);
  const accumulator = () => {
    const sum = createDoubleSingle(accumulators, [arch.hidden, arch.hidden]);
    clearDoubleSingle(rec, sum);
    return sum;
  };
  const total = totalTokens(batches.flat());
  const last = lastRemoved(window);
  states?.retain([window.layer - 1, last]);
  let tokens = 0;
  let targetSquares = 0;
  try {
    const statistics = { gram: accumulator(), cross: accumulator() };
    for (const sequences of batches) {
      options.signal?.throwIfAborted();
      using scope = new Scope(device);
      using batch = new Batch(device, sequences);
      const mlpOutput = scope.tensor([batch.tokens, arch.hidden], 'f32', 'mlp output');
      const taken = (layer: number) => {
        const output = states?.take(sequences, layer);
        return output && scope.own(output);
      };
      // The tap costs layers their fused addition, so those below run without it.
      const below = () => scope.own(forward(model, batch, { to: window.layer }));
      const input = taken(window.layer - 1) ?? (window.layer > 0 ? below() : undefined);
      const kept = scope.own(
        forward(model, batch, {
          ...(input && { from: window.layer, input }),
          to: window.layer + 1,
          tap: (_, tensors) => rec.copy(tensors.mlpOutput, mlpOutput),
        }),
      );
      const change =
        taken(last) ??
        scope.own(forward(model, batch, { from: window.layer + 1, to: last + 1, input: kept }));
      using _sums = device.section('gram and cross');
      axpy(rec, -1, kept, change);
      gram(rec, mlpOutput, undefined, statistics.gram);
      cross(rec, mlpOutput, change, undefined, statistics.cross);
      const norms = scope.tensor([batch.tokens], 'f32', 'norms');
      rowNorms(rec, change, norms);
      targetSquares += (await downloadF32(norms)).reduce((sum, norm) => sum + norm * norm, 0);
      tokens += batch.tokens;
      options.onProgress?.({ phase: 'statistics', done: tokens, total, unit: 'tokens' });
    }
    mirrorLower(rec, statistics.gram);
    return { ...statistics, tokens, targetSquares, dispose: () => accumulators.dispose() };
  } catch (error) {
    accumulators.dispose();
    throw error;
  }
}

export interface LeastSquaresFit {
  /** T [hidden, hidden] f32: M_i T stands for L_j - Y_i (row vectors). The caller disposes it. */
  readonly transform: Tensor;
  readonly solve: SolveReport;
  /** |M T - (L_j - Y_i)|_F / |L_j - Y_i|_F over the calibration tokens. */
  readonly relativeResidual: number;
  /** The same for plain removal, T = I. */
  readonly plainRelativeResidual: number;
}

/** Of Delta: below what the f32 rounding of T leaves of it, and of what f32 activations do to it. */
const SOLVE_ACCURACY = 1e-7;
/** Elements of a matrix on the host at a time. */
const HOST_ELEMENTS = 2 ** 24;

const downloadRows = ({ hi, lo }: DoubleSingle, first: number, count: number): Promise<Float64Array> =>
  downloadF64({ hi: hi.rows(first, count), lo: lo.rows(first, count) });

/**
 * T = (G + alpha I)⁻¹ Mᵀ(L_j - Y_i) (ReplaceMe Eqs. 6 and 9, arXiv:2505.02819), computed as
 * T = I + (G + alpha I)⁻¹ (C - alpha I).
 *
 * @param alpha ridge on the unnormalised Gram matrix, as in ReplaceMe; 0 is plain least squares.
 * @throws RmError NOT_POSITIVE_DEFINITE or NOT_CONVERGED where alpha is too small for the data.
 */
export async function fitLeastSquares(
  device: Device,
  statistics: LeastSquaresStatistics,
  alpha: number,
): Promise<LeastSquaresFit> {
  using _section = device.section('solve');
  using scope = new Scope(device);
  const hidden = statistics.gram.hi.columns;
  const rightSide = createDoubleSingle(scope, [hidden, hidden]);
  device.recorder.copy(statistics.cross.hi, rightSide.hi);
  device.recorder.copy(statistics.cross.lo, rightSide.lo);
  if (alpha > 0) addDiagonal(device.recorder, rightSide, -alpha);
  const { x, report } = await solveSpd(device, statistics.gram, rightSide, {
    shift: alpha,
    label: 'G',
    accuracy: SOLVE_ACCURACY,
  });
  scope.own(x.hi);
  scope.own(x.lo);

  // |M T - (L_j - Y_i)|² = |M Delta - (L_j - L_i)|² = tr(Delta' G Delta) - 2 tr(Delta' C) + c, and
  // G Delta = C - alpha I - alpha Delta by the normal equations. L_j - Y_i = (L_j - L_i) + M.
  let residual = statistics.targetSquares;
  let target = statistics.targetSquares;
  const piece = Math.max(1, Math.floor(HOST_ELEMENTS / hidden));
  for (let first = 0; first < hidden; first += piece) {
    const rows = Math.min(piece, hidden - first);
    const [gramValues, crossValues, delta] = [
      await downloadRows(statistics.gram, first, rows),
      await downloadRows(statistics.cross, first, rows),
      await downloadRows(x, first, rows),
    ];
    for (let at = 0; at < delta.length; at++) {
      const onDiagonal = first + Math.floor(at / hidden) === at % hidden ? 1 : 0;
      residual += delta[at]! * (-crossValues[at]! - alpha * (onDiagonal + delta[at]!));
      target += onDiagonal * (2 * crossValues[at]! + gramValues[at]!);
    }
  }
  addDiagonal(device.recorder, x, 1);
  const transform = Tensor.create(device, [hidden, hidden], 'f32', 'transform');
  device.recorder.copy(x.hi, transform);
  const relative = (squares: number) => Math.sqrt(Math.max(0, squares) / target);
  return {
    transform,
    solve: report,
    relativeResidual: relative(residual),
    plainRelativeResidual: relative(statistics.targetSquares),
  };
}
