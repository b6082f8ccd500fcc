import {
  checkArguments,
  type Device,
  finite,
  optional,
  type Recorder,
  RmError,
  requireExactArithmetic,
  Scope,
  settings,
  type Tensor,
  tensorFrom,
  text,
} from '../../engine/index.js';
import type { Matrix } from '../blockProduct/blockProduct.js';
import { operations } from '../blockProduct/commonWgsl.js';
import { frobeniusNorm } from '../reductions/rowNorms.js';
import { aDevice, aPair, checkMatrix, checkTensor, iterable, maybeNumber } from '../shared/checks.js';
import { createDoubleSingle, type DoubleSingle, disposeDoubleSingle } from '../shared/doubleSingle.js';
import { type CholeskyFactor, cholesky, notPositiveDefinite, scratchLike } from './cholesky.js';
import { inverseNormEstimate, normEstimate } from './conditionEstimate.js';
import { downloadDiagonal, equilibration } from './equilibration.js';
import { beginResidual, equilibrate, loadPanel, type Panel, storePanel } from './panels.js';
import { createProbes, type Probes } from './probes.js';
import { solveResidual } from './solveResidual.js';
import { solveFactored } from './triangularSolve.js';

/** Settings of `solveSpd`. */
export interface SolveOptions {
  /** The ridge: added to the diagonal of A, in A's units; default: 0. */
  shift?: number;
  /** Largest accepted |B - A X|_F / |B|_F; default: 1e-6. */
  tolerance?: number;
  /**
   * Refinement stops at this estimated relative error of X, |X - X'|_F / |X|_F. By default it goes as far as
   * double-single allows; if X is used in f32, 1e-7 suffices and costs less than half.
   */
  accuracy?: number;
  /** Name of A in messages. */
  label?: string;
}

const pathForms = { tolerance: maybeNumber, accuracy: maybeNumber, label: optional(text) };
const pathSettings = settings<Omit<SolveOptions, 'shift'>>(pathForms);
const solveSettings = settings<SolveOptions>({ ...pathForms, shift: maybeNumber });

/** How `solveSpd` solved a system, and how accurately. */
export interface SolveReport {
  /** 'refinement' uses an f32 factor, the other a double-single factor; residuals and X are double-single in both. */
  method: 'refinement' | 'double-single refinement';
  /** Number of solves with the factor: 1, and 1 for each refinement of X. */
  iterations: number;
  /** |B - (A + shift I) X|_F / |B|_F, estimated from 32 combinations of the columns. */
  relativeResidual: number;
  /**
   * |X - X'|_F / |X|_F, estimated in the same way by one more step of refinement. X' is the solution for A and B as they
   * are given: errors of relative size e in A or B themselves move it by up to about 2 e times the condition.
   */
  relativeError: number;
  /** 2-norm condition number of the equilibrated matrix, estimated from below, usually within a factor of 2. */
  conditionEstimate: number;
  shiftUsed: number;
}

/** The solution of a system, with a report of its accuracy. */
export interface Solution {
  /** [n,r]; the caller disposes it. */
  x: DoubleSingle;
  report: SolveReport;
}

const MOST_ITERATIONS = 20;
/** Pivots of the equilibrated matrix below this are rounding errors of double-single. */
const SMALLEST_PIVOT = 1e-12;
/** A refinement step with an f32 factor leaves about this times the condition of the error. */
const CONTRACTION_F32 = 2e-8;

/** The parts of a system that do not depend on the shift. */
interface System {
  rec: Recorder;
  a: DoubleSingle;
  b: DoubleSingle;
  diagonal: Float32Array;
  normB: number;
  probes: Probes;
  panels: readonly Panel[];
  label: string;
  accuracy: number;
}

/** Divides the columns of a matrix [n,r] into panels that fit one binding. */
function panelsOf({ device, rowCount: n, columns: r }: Tensor): Panel[] {
  const fitting = Math.floor(device.limits.maxStorageBufferBindingSize / (4 * n));
  // Whole tiles of blockProduct.
  const width = r <= fitting ? r : Math.max(1, fitting - (fitting % Math.min(64, fitting)));
  return Array.from({ length: Math.ceil(r / width) }, (_, i) => ({
    first: i * width,
    width: Math.min(width, r - i * width),
  }));
}

/** Whether an f32 factor needs fewer operations per column of A; products of pairs and of three parts dominate both. */
function f32Pays(n: number, r: number, condition: number, accuracy: number): boolean {
  const contraction = condition * CONTRACTION_F32;
  if (contraction > 0.1) return false;
  const refinements = Math.max(1, Math.ceil(Math.log(accuracy) / Math.log(contraction)) - 1);
  const refinementsOfPair = accuracy < condition * 2 ** -48 ? 1 : 0;
  return (
    refinements * operations.precise * r <
    operations.pair * (n / 6 + r) + refinementsOfPair * (operations.precise + operations.pair) * r
  );
}

/**
 * Solves (A + shift I) X = B for a symmetric positive definite A [n,n]; B [n,r], X [n,r], all double-single. A and B stay
 * unchanged; the caller owns X. The report's error is that of solving, relative to the given A and B: sums of `gram` err by
 * up to 1e-9, which at a condition of 1e9 is all of X. Make them with `precise` where the condition exceeds 1e8.
 *
 * @throws RmError NOT_POSITIVE_DEFINITE, which names the pivot, when A + shift I is singular to working precision or
 * indefinite; NOT_CONVERGED when the residual stays above `tolerance`; NOT_FINITE, INVALID_ARGUMENT.
 */
export async function solveSpd(
  device: Device,
  a: DoubleSingle,
  b: DoubleSingle,
  options: SolveOptions = {},
): Promise<Solution> {
  checkArguments('solveSpd', { options }, { options: solveSettings });
  const { shift = 0, ...others } = options;
  for await (const solution of solveSpdPath(device, a, b, [shift], others)) return solution;
  throw new Error('a path of one shift has one solution');
}

/**
 * Solves (A + shift I) X = B for several shifts, in order, and shares the work that does not depend on the shift. The
 * caller owns each X and may dispose it before taking the next. A failure ends the path, so pass large shifts first if
 * small ones may leave A + shift I indefinite.
 *
 * @throws RmError as solveSpd.
 */
export async function* solveSpdPath(
  device: Device,
  a: DoubleSingle,
  b: DoubleSingle,
  shifts: Iterable<number>,
  options: Omit<SolveOptions, 'shift'> = {},
): AsyncGenerator<Solution, void, undefined> {
  checkArguments(
    'solveSpd',
    { device, a, b, shifts, options },
    { device: aDevice, a: aPair, b: aPair, shifts: iterable, options: pathSettings },
  );
  const { tolerance = 1e-6, accuracy = Number.EPSILON, label = a.hi.label } = options;
  const [n] = checkMatrix('solveSpd', 'a', a.hi);
  const [, r] = checkMatrix('solveSpd', 'b', b.hi);
  checkTensor('solveSpd', 'a', a.hi, [n, n]);
  checkTensor('solveSpd', 'b', b.hi, [n, r]);
  await requireExactArithmetic(device);
  const rec = device.recorder;
  using scope = new Scope(device);
  const system: System = {
    rec,
    a,
    b,
    diagonal: await downloadDiagonal(rec, a.hi),
    normB: (await frobeniusNorm(rec, b.hi)) || 1,
    probes: createProbes(scope, device, rec, b),
    panels: panelsOf(b.hi),
    label,
    accuracy,
  };
  for (const shift of shifts) {
    checkArguments('solveSpd', { shift }, { shift: finite(0) });
    const x = createDoubleSingle(device, [n, r], 'solution');
    let report: SolveReport;
    try {
      report = await solveShift(system, shift, x);
      if (!(report.relativeResidual <= tolerance)) {
        throw new RmError(
          'NOT_CONVERGED',
          `solving with '${label}' [${n},${n}] stopped at a relative residual of ${report.relativeResidual.toExponential(1)} (condition about ${report.conditionEstimate.toExponential(1)})`,
          'Raise alpha, or use more calibration tokens.',
        );
      }
    } catch (error) {
      disposeDoubleSingle(x);
      throw error;
    }
    yield { x, report };
  }
}

async function solveShift(system: System, shift: number, x: DoubleSingle): Promise<SolveReport> {
  const { a, b, diagonal, label } = system;
  using scope = new Scope(a.hi.device);
  const s = scope.own(tensorFrom(a.hi.device, equilibration(diagonal, shift, label)));
  const few = f32Pays(a.hi.columns, b.hi.columns, 1, system.accuracy);
  return (
    (few ? await attempt(system, shift, s, x, false) : undefined) ??
    (await attempt(system, shift, s, x, true))!
  );
}

/** Factorises, solves and refines once; returns undefined if an f32 factor does not suffice. */
async function attempt(
  system: System,
  shift: number,
  s: Tensor,
  x: DoubleSingle,
  pair: boolean,
): Promise<SolveReport | undefined> {
  const { rec, a, b, label, accuracy } = system;
  const n = a.hi.columns;
  using scope = new Scope(a.hi.device);
  const matrix: Matrix = pair
    ? createDoubleSingle(scope, [n, n], 'factor')
    : scope.tensor([n, n], 'f32', 'factor');
  equilibrate(rec, a, s, shift, matrix);
  const norm = await normEstimate(rec, 'hi' in matrix ? matrix.hi : matrix);
  const factor = cholesky(rec, matrix, { minimumPivot: pair ? SMALLEST_PIVOT : 0 });
  try {
    const failed = await factor.failedPivot();
    if (failed && pair) throw notPositiveDefinite(label, n, failed);
    if (failed) return undefined;
    const conditionEstimate = Math.max(1, norm * (await inverseNormEstimate(rec, factor)));
    if (!pair && !f32Pays(n, b.hi.columns, conditionEstimate, accuracy)) return undefined;
    const { converged, ...outcome } = await refine(system, shift, s, x, factor);
    if (!pair && !converged) return undefined;
    return {
      method: pair ? 'double-single refinement' : 'refinement',
      ...outcome,
      conditionEstimate,
      shiftUsed: shift,
    };
  } finally {
    factor.dispose();
  }
}

/** Solves, then refines X until it is accurate enough or stops improving. */
async function refine(
  system: System,
  shift: number,
  s: Tensor,
  x: DoubleSingle,
  factor: CholeskyFactor,
): Promise<{ iterations: number; relativeResidual: number; relativeError: number; converged: boolean }> {
  const { accuracy } = system;
  solvePanels(system, shift, s, x, factor, false);
  let { relativeResidual, relativeError } = await measure(system, shift, s, x, factor);
  const contraction = relativeError;
  let iterations = 1;
  // Also ends once the expected error is below `accuracy`: another step would only measure rounding.
  for (let expected = relativeError; expected > accuracy && relativeError > accuracy; iterations++) {
    if (iterations === MOST_ITERATIONS || !(relativeError < 0.5)) break;
    solvePanels(system, shift, s, x, factor, true);
    const next = await measure(system, shift, s, x, factor);
    expected = relativeError * contraction;
    const falling = next.relativeError < relativeError / 2;
    ({ relativeResidual, relativeError } = next);
    if (!falling) {
      iterations++;
      break;
    }
  }
  return {
    iterations,
    relativeResidual,
    relativeError,
    converged: relativeError <= Math.max(accuracy, 1e-9),
  };
}

/** X = solution of the factorised system or, with `correction`, X += solution for the residual. */
function solvePanels(
  { rec, a, b, panels }: System,
  shift: number,
  s: Tensor,
  x: DoubleSingle,
  factor: CholeskyFactor,
  correction: boolean,
): void {
  const n = a.hi.columns;
  for (const panel of panels) {
    using scope = new Scope(a.hi.device);
    const shape = [n, panel.width];
    const work = scratchLike(scope, factor.u, shape, 'panel');
    if (correction) {
      const begun = createDoubleSingle(scope, shape, 'right-hand side');
      const rest = createDoubleSingle(scope, shape, 'residual');
      const solution = createDoubleSingle(scope, shape, 'panel of the solution');
      beginResidual(rec, b, x, shift, begun, solution, panel);
      solveResidual(rec, a, solution, begun, rest);
      loadPanel(rec, rest, s, work, { first: 0, width: panel.width });
    } else {
      loadPanel(rec, b, s, work, panel);
    }
    solveFactored(rec, factor, work);
    storePanel(rec, x, s, work, panel, correction);
  }
}

/** Estimates the relative residual and error of X. */
async function measure(
  { rec, a, probes, normB }: System,
  shift: number,
  s: Tensor,
  x: DoubleSingle,
  factor: CholeskyFactor,
): Promise<{ relativeResidual: number; relativeError: number }> {
  using scope = new Scope(a.hi.device);
  const { shape } = probes.b.hi;
  const all = { first: 0, width: shape[1]! };
  const [combined, solution, begun, rest] = ['X', 'solution', 'begun', 'residual'].map(name =>
    createDoubleSingle(scope, shape, `probed ${name}`),
  ) as [DoubleSingle, DoubleSingle, DoubleSingle, DoubleSingle];
  probes.combine(x, combined);
  beginResidual(rec, probes.b, combined, shift, begun, solution, all);
  solveResidual(rec, a, solution, begun, rest);
  const work = scratchLike(scope, factor.u, shape, 'probed error');
  loadPanel(rec, rest, s, work, all);
  solveFactored(rec, factor, work);
  storePanel(rec, combined, s, work, all, false);
  const [residualNorm, solutionNorm, errorNorm] = [
    await probes.norm(rest.hi),
    await probes.norm(solution.hi),
    await probes.norm(combined.hi),
  ];
  return {
    relativeResidual: residualNorm / normB,
    relativeError: errorNorm / (solutionNorm || 1),
  };
}
