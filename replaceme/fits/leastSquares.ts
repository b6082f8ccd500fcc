import {
  type Device,
  LaterDownloads,
  liveSums,
  noJournal,
  requireExactArithmetic,
  Scope,
  Tensor,
  tensorFrom,
} from '../../engine/index.js';
import {
  addDiagonal,
  clearDoubleSingle,
  createDoubleSingle,
  crossGram,
  type DoubleSingle,
  downloadF64,
  gram,
  type SolveReport,
  solveSpd,
  symmetrize,
} from '../../kernels/index.js';
import { difference, rowNormsOf, sumOfSquares } from '../activations/rowOperations.js';
import type { Sums } from '../statistics/statisticsStore.js';
import type { FitPass } from './fitPass.js';
import { addMassive, EARLY_TOKENS, type MassiveSums, noMassiveSums } from './massiveActivations.js';

/**
 * Sums over calibration tokens for one window (i, n), j = i + n. The right-hand side uses L_i instead of Y_i, which fits
 * the small change Delta = T - I: less cancellation, same T.
 */
export interface LeastSquaresStatistics {
  readonly tokens: number;
  /** G = MᵀM, M = MLP output of layer i [hidden, hidden]. */
  readonly gram: DoubleSingle;
  /** C = Mᵀ(L_j - L_i) [hidden, hidden]. */
  readonly cross: DoubleSingle;
  /** |L_j - L_i|² summed over tokens. */
  readonly targetSquares: number;
  /** Undefined in files of earlier versions. */
  readonly massive: MassiveSums | undefined;
  [Symbol.dispose](): void;
}

/**
 * Accumulates the statistics of a window over all calibration tokens.
 *
 * @param before a T before the norm behind the MLP: M is then what comes before that norm, divided by what the norm divides
 *   by with T in place, and L_i is Y + M.
 * @param look sees the sums once, as soon as there are enough tokens for a first look.
 */
export async function leastSquaresStatistics(
  pass: FitPass,
  before?: Tensor,
  look?: (sums: MassiveSums & { tokens: number; targetSquares: number }) => void,
): Promise<LeastSquaresStatistics> {
  const { device, arch } = pass.model;
  // Fail before the long pass, not in the solve after it.
  await requireExactArithmetic(device);
  const rec = device.recorder;
  using accumulators = new Scope(device);
  const accumulator = () => {
    const sum = createDoubleSingle(accumulators, [arch.hidden, arch.hidden]);
    clearDoubleSingle(rec, sum);
    return sum;
  };
  const statistics = { gram: accumulator(), cross: accumulator() };
  const numbers = { tokens: 0, targetSquares: 0, ...noMassiveSums() };
  const { journal = noJournal } = pass.inputs.options;
  using later = new LaterDownloads(device);
  const tracking = await journal.track('sums', later.before(liveSums(matricesOf(statistics), numbers)));
  let recorded = numbers.tokens;
  let looked = look === undefined;
  await pass.forEach(async ({ mlpOutput, layerOutput, target }, { weight }) => {
    using scope = new Scope(device);
    using _ = device.section('statistics');
    const change = difference(scope, target, layerOutput);
    const weights =
      weight === 1
        ? undefined
        : scope.own(tensorFrom(device, new Float32Array(mlpOutput.rowCount).fill(weight)));
    gram(rec, mlpOutput, weights, statistics.gram);
    crossGram(rec, mlpOutput, change, weights, statistics.cross);
    await later.readF32([layerOutput, target, change, mlpOutput].map(rowNormsOf), norms => {
      const [layerOutput, target, change, mlpOutput] = norms as [
        Float32Array,
        Float32Array,
        Float32Array,
        Float32Array,
      ];
      numbers.tokens += change.length;
      numbers.targetSquares += weight * sumOfSquares(change);
      addMassive(numbers, { layerOutput, target, change, mlpOutput }, weight);
    });
    recorded += mlpOutput.rowCount;
    if (looked || recorded < EARLY_TOKENS) return;
    looked = true;
    await later.arrive();
    look!(numbers);
  }, before);
  await later.arrive();
  tracking[Symbol.dispose]();
  symmetrize(rec, statistics.gram);
  const owned = accumulators.releaseAll();
  const { tokens, targetSquares, ...massive } = numbers;
  return {
    ...statistics,
    ...{ tokens, targetSquares, massive },
    [Symbol.dispose]: () => {
      for (const tensor of owned) tensor.dispose();
    },
  };
}

const matricesOf = ({ gram, cross }: Pick<LeastSquaresStatistics, 'gram' | 'cross'>) => ({
  'G hi': gram.hi,
  'G lo': gram.lo,
  'C hi': cross.hi,
  'C lo': cross.lo,
});

/** The sums for a statistics file; they keep their tensors. */
export const sumsOf = (statistics: LeastSquaresStatistics): Sums => ({
  tensors: matricesOf(statistics),
  numbers: {
    tokens: statistics.tokens,
    targetSquares: statistics.targetSquares,
    ...statistics.massive,
  },
});

/** The inverse of `sumsOf`; takes ownership of the tensors in `scope`. */
export function statisticsFrom({ tensors, numbers }: Sums, scope: Scope): LeastSquaresStatistics {
  const owned = scope.releaseAll();
  return {
    tokens: numbers.tokens!,
    gram: { hi: tensors['G hi']!, lo: tensors['G lo']! },
    cross: { hi: tensors['C hi']!, lo: tensors['C lo']! },
    targetSquares: numbers.targetSquares!,
    massive: numbers.massiveTokens === undefined ? undefined : (numbers as unknown as MassiveSums),
    [Symbol.dispose]: () => {
      for (const tensor of owned) tensor.dispose();
    },
  };
}

export interface LeastSquaresFit {
  /** T [hidden, hidden] f32: M_i T approximates L_j - Y_i (row vectors). The caller disposes it. */
  readonly transform: Tensor;
  readonly solve: SolveReport;
  /** |M T - (L_j - Y_i)|_F / |L_j - Y_i|_F over the calibration tokens. */
  readonly relativeResidual: number;
  /** Of plain removal, T = I. */
  readonly plainRelativeResidual: number;
}

/** Accuracy of Delta: finer than the f32 rounding of T, and than the effect of f32 activations. */
const SOLVE_ACCURACY = 1e-7;
/** Elements of a matrix that are on the host at a time. */
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
  // The pass left buffers of other sizes in the pool than the solve needs.
  await device.reclaim();
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
