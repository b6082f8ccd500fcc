import type { Command } from 'commander';
import type { SolveBenchmark } from '../../bench/solve.js';
import { withDevice } from '../device/gpu.js';
import { wholeNumber } from '../options/optionTypes.js';
import { type MeasuringOptions, measuringCommand } from './measuring.js';

interface SolveOptions extends MeasuringOptions {
  n: number;
  rightSides?: number;
  samples: number;
}

const solveBench = () => import('../../bench/solve.js');

/** `bench solve` */
export const solveCommand = (signal: AbortSignal): Command =>
  measuringCommand<SolveOptions, SolveBenchmark>(signal, {
    name: 'solve',
    summary: 'Cholesky, solution and refinement of an n x n system, by phase',
    details: `The matrix 0.99^|i-j| is dense and has condition number 4e4. The last phase is the whole solve as ReplaceMe calls it.`,
    examples: ['rm-engine bench solve', 'rm-engine bench solve --n 4096 --samples 5'],
    options: command =>
      command
        .option('--n <count>', 'rows of the matrix', wholeNumber(1), 576)
        .option('--right-sides <count>', 'right-hand sides (default: n)', wholeNumber(1))
        .option('--samples <count>', 'samples after a warm-up; their median counts', wholeNumber(1), 5),
    measure: async run => {
      const { benchSolve } = await solveBench();
      const { n, rightSides, samples } = run.options;
      return withDevice(run, device =>
        benchSolve(device, n, { samples, signal: run.signal, ...(rightSides && { rightSides }) }),
      );
    },
    text: async result => (await solveBench()).solveText(result),
  });
