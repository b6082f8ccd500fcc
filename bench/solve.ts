import { type Device, downloadF32, Scope, seededRandom } from '../engine/index.js';
import {
  blockProductVariants,
  type CholeskyFactor,
  cholesky,
  createDoubleSingle,
  type DoubleSingle,
  disposeDoubleSingle,
  type SolveReport,
  solveFactored,
  solveResidual,
  solveSpd,
  uploadF64,
} from '../kernels/index.js';
import {
  type Benchmark,
  type BenchText,
  describeEnvironment,
  digits,
  environment,
  left,
  type MeasureOptions,
  median,
  medianTime,
  right,
  wallTime,
} from './measure.js';

export interface SolvePhase {
  readonly phase: string;
  readonly milliseconds: number;
  readonly gflops: number;
}

export interface SolveBenchmark extends Benchmark {
  readonly n: number;
  readonly rightSides: number;
  readonly samples: number;
  readonly phases: readonly SolvePhase[];
  /** The report of the whole solve. */
  readonly report: SolveReport;
}

/** Ratio r of the matrix r^|i-j|; its condition number is ((1 + r) / (1 - r))^2, here 4e4. */
const DECAY = 0.99;

/** Kac-Murdock-Szego matrix r^|i-j|: dense, symmetric positive definite, of known condition number. */
const kmsMatrix = (n: number): Float64Array => {
  const powers = Float64Array.from({ length: n }, (_, distance) => DECAY ** distance);
  const values = new Float64Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) values[i * n + j] = powers[Math.abs(i - j)]!;
  return values;
};

/**
 * Times Cholesky, solution and residual one by one, and solveSpd as ReplaceMe calls it (equilibration, condition,
 * refinement to double-single), for an n x n matrix and `rightSides` columns. Wall clock around one submit each.
 */
export async function benchSolve(
  device: Device,
  n: number,
  { rightSides = n, samples = 5, signal }: MeasureOptions & { readonly rightSides?: number } = {},
): Promise<SolveBenchmark> {
  const rec = device.recorder;
  using scope = new Scope(device);
  const owned = ({ hi, lo }: DoubleSingle) => ({ hi: scope.own(hi), lo: scope.own(lo) });
  const a = owned(await uploadF64(device, kmsMatrix(n), [n, n], 'A'));
  const random = seededRandom(2);
  const values = Float64Array.from({ length: n * rightSides }, () => random() - 0.5);
  const b = owned(await uploadF64(device, values, [n, rightSides], 'B'));
  const l = scope.tensor([n, n], 'f32', 'L');
  const x = createDoubleSingle(scope, [n, rightSides], 'X');
  const left = createDoubleSingle(scope, [n, rightSides], 'residual');
  const phases: SolvePhase[] = [];
  const add = (phase: string, flops: number, milliseconds: number) =>
    phases.push({ phase, milliseconds, gflops: flops / milliseconds / 1e6 });
  const factorFlops = n ** 3 / 3;
  const productFlops = 2 * n * n * rightSides;

  // In turns with products that read all finished rows for every 32 rows, as before matmul's tiles took the large ones.
  const small = blockProductVariants(device, 'f32').find(({ kind }) => kind !== 'matmul');
  const forms = [
    { name: 'f32', options: {} },
    { name: 'f32, small products', options: { panel: n, variant: small } },
  ];
  const taken = forms.map(() => ({ factor: [] as number[], solution: [] as number[] }));
  for (let i = 0; i <= samples; i++) {
    for (const [form, { options }] of forms.entries()) {
      signal?.throwIfAborted();
      rec.copy(a.hi, l);
      rec.copy(b.hi, x.hi);
      await rec.finish();
      const record = async (what: 'factor' | 'solution', run: () => void) => {
        const time = await wallTime(async () => {
          run();
          await rec.finish();
        });
        if (i > 0) taken[form]![what].push(time);
      };
      let factor: CholeskyFactor | undefined;
      await record('factor', () => {
        factor = cholesky(rec, l, options);
      });
      await record('solution', () => solveFactored(rec, factor!, x.hi));
      factor?.dispose();
    }
  }
  for (const [form, { name }] of forms.entries()) {
    add(`Cholesky, ${name}`, factorFlops, median(taken[form]!.factor));
    add(`solution, ${name}`, productFlops, median(taken[form]!.solution));
  }
  rec.clear(x.lo);
  const residualTime = await medianTime(
    async () => {
      solveResidual(rec, a, x, b, left);
      await rec.finish();
    },
    { samples, ...(signal && { signal }) },
  );
  add('residual, double-single', productFlops, residualTime);

  let report: SolveReport | undefined;
  const times: number[] = [];
  for (let i = 0; i <= Math.min(3, samples); i++) {
    signal?.throwIfAborted();
    times.push(
      await wallTime(async () => {
        const solved = await solveSpd(device, a, b, { accuracy: 1e-7 });
        report = solved.report;
        // solveSpd only records its last kernel: wait for it.
        await downloadF32(solved.x.hi.rows(0, 1));
        disposeDoubleSingle(solved.x);
      }),
    );
  }
  add('solveSpd, refined', factorFlops + productFlops, median(times.slice(1)));
  return {
    ...{ bench: 'solve', ...environment(device), n, rightSides, samples, phases, report: report! },
    metrics: phases.map(({ phase, milliseconds }) => ({
      ...{ name: `${phase}, n = ${n}, ${rightSides} right-hand sides`, value: milliseconds },
      ...{ unit: 'ms', better: 'lower' as const },
    })),
  };
}

export const solveText = (result: SolveBenchmark): BenchText => ({
  description: `n = ${result.n}, ${result.rightSides} right-hand sides, wall clock, median of ${result.samples}, ${describeEnvironment(result)}`,
  tables: [
    {
      columns: [left('phase'), right('ms'), right('GFLOP/s')],
      rows: result.phases.map(({ phase, milliseconds, gflops }) => [
        phase,
        digits(milliseconds),
        digits(gflops),
      ]),
    },
  ],
  remarks: [
    `solveSpd: ${result.report.method}, ${result.report.iterations} steps, relative residual ` +
      `${result.report.relativeResidual.toExponential(1)}, condition about ` +
      `${result.report.conditionEstimate.toExponential(1)}. GFLOP/s count n^3/3, and 2 n^2 per right-hand side, once.`,
  ],
});
