import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Device, ensure, type SectionProfile } from '../engine/index.js';
import { readArchitecture } from '../model/index.js';
import { type PruneOptions, prune } from '../replaceme/index.js';
import {
  type Benchmark,
  type BenchText,
  describeEnvironment,
  digits,
  environment,
  left,
  percent,
  right,
} from './measure.js';

export interface PrunePhase {
  readonly phase: string;
  readonly wallSeconds: number;
  /** Kernel time by timestamps. */
  readonly kernelSeconds: number;
}

export interface PruneBenchmark extends Benchmark {
  readonly model: string;
  /** "keep 3, remove 4..7 (4 of 12 layers)" */
  readonly summary: string;
  readonly method: string;
  readonly tokens: number;
  readonly seconds: number;
  readonly phases: readonly PrunePhase[];
  /** Kernel seconds: the forward passes that feed the statistics, G and C of the window, the solve. */
  readonly forward: number;
  readonly sums: number;
  readonly solve: number;
}

/** Target costs of G and C, and of the solve, as shares of the forward pass: ReplaceMe's, and those of other methods. */
const targetsOf = (method: string) =>
  method === 'replaceme-ls' ? { sums: 0.15, solve: 0.02 } : { sums: 1, solve: 1 };

/** Tokens of the warm-up run, which compiles the programs: enough for its solve to take the same path. */
const warmUpTokens = (hidden: number): number => Math.max(512, 2 * hidden);
/** Ridge of the warm-up: negligible, but makes the matrix of few tokens positive definite. */
const WARM_UP_ALPHA = 1e-3;

/** Kernel milliseconds of a section and its subsections. */
const kernelTime = (sections: readonly SectionProfile[], path: string): number =>
  sections
    .filter(({ section }) => section === path || section.startsWith(`${path}/`))
    .reduce((sum, { milliseconds }) => sum + milliseconds, 0);

/** Sections whose kernels run the model's layers, at any depth of nesting. */
const FORWARD = ['forward', 'distances', 'reference', 'evaluate'];

/** Milliseconds of one prune's forward passes, sums and solve, by the innermost names of the profiler's sections. */
export function pruneShares(sections: readonly SectionProfile[]): {
  forward: number;
  sums: number;
  solve: number;
} {
  const within = (...names: string[]) =>
    sections
      .filter(({ section }) => names.includes(section.split('/').at(-1)!))
      .reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const ranking = sections
    .filter(({ section }) => section.split('/').at(-1) === 'distances')
    .flatMap(({ kernels }) => kernels)
    .filter(({ kernel }) => kernel.startsWith('cosineDistance'))
    .reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  // The pass that ranks windows keeps hidden states for the statistics, so both passes feed them.
  return { forward: within(...FORWARD) - ranking, sums: within('statistics'), solve: within('solve') };
}

/**
 * Prunes a model into a temporary folder and times each phase, after a short run that compiles. `device` must have a
 * profiler (open it with `profile`).
 */
export async function benchPrune(
  device: Device,
  folder: string,
  name: string,
  options: Omit<PruneOptions, 'device' | 'force'>,
): Promise<PruneBenchmark> {
  const { profiler } = device;
  ensure(profiler !== undefined, 'the device has no profiler', 'Open it with { profile: true }.');
  const temporary = await mkdtemp(join(tmpdir(), 'rm-engine-bench-'));
  try {
    // The report's measurements are not part of pruning.
    const unreported = { ...options, report: 'none' as const };
    const { onProgress: _, ...quiet } = unreported;
    const { hidden } = await readArchitecture(folder);
    const tokens = Math.min(warmUpTokens(hidden), options.tokens ?? Number.POSITIVE_INFINITY);
    const ridge = options.method === 'replaceme-ls' ? { alpha: options.alpha || WARM_UP_ALPHA } : {};
    await prune(folder, join(temporary, 'warm-up'), { ...quiet, ...ridge, tokens, device });
    await profiler.table();
    profiler.reset();
    const report = await prune(folder, join(temporary, 'pruned'), { ...unreported, device });
    const sections = await profiler.sections();
    const outer = sections.filter(({ section }) => section !== '' && !section.includes('/'));
    const phases: PrunePhase[] = outer.map(({ section, wallMilliseconds }) => ({
      ...{ phase: section, wallSeconds: wallMilliseconds / 1000 },
      kernelSeconds: kernelTime(sections, section) / 1000,
    }));
    const all = sections.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / 1000;
    const sum = (field: 'wallSeconds' | 'kernelSeconds') =>
      phases.reduce((total, phase) => total + phase[field], 0);
    phases.push({
      ...{ phase: 'other', wallSeconds: report.seconds - sum('wallSeconds') },
      kernelSeconds: all - sum('kernelSeconds'),
    });
    const shares = pruneShares(sections);
    const metric = `${name}, ${report.method}, ${report.calibration.tokens} tokens`;
    const better = 'lower' as const;
    return {
      ...{ bench: 'prune', ...environment(device), model: name },
      ...{ summary: report.summary, method: report.method },
      ...{ tokens: report.calibration.tokens, seconds: report.seconds, phases },
      ...{ forward: shares.forward / 1000, sums: shares.sums / 1000, solve: shares.solve / 1000 },
      metrics: [
        { name: metric, value: report.seconds, unit: 's', better },
        {
          name: `${metric}, G and C of the forward pass`,
          value: shares.sums / shares.forward,
          unit: '',
          better,
        },
        {
          name: `${metric}, solve of the forward pass`,
          value: shares.solve / shares.forward,
          unit: '',
          better,
        },
      ],
    };
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

export function pruneText(result: PruneBenchmark): BenchText {
  const { phases, seconds, forward, sums, solve } = result;
  const targets = targetsOf(result.method);
  const share = (part: number, target: number) =>
    `${percent(part / forward)} (target: at most ${percent(target)}${part / forward <= target ? ', met' : ', MISSED'})`;
  return {
    description: `${result.model}, ${result.method}: ${result.summary}, ${result.tokens} tokens, profiled, ${describeEnvironment(result)}`,
    tables: [
      {
        columns: [left('phase'), right('s'), right('share'), right('kernels, s')],
        rows: [
          ...phases.map(({ phase, wallSeconds, kernelSeconds }) => [
            ...[phase, digits(wallSeconds), percent(wallSeconds / seconds), digits(kernelSeconds)],
          ]),
          [
            'together',
            digits(seconds),
            '',
            digits(phases.reduce((sum, phase) => sum + phase.kernelSeconds, 0)),
          ],
        ],
      },
    ],
    remarks: [
      `Cost as a share of the forward pass that feeds the statistics (${digits(forward)} s of kernels): ` +
        `G and C ${share(sums, targets.sums)}, Cholesky and solves ${share(solve, targets.solve)}.`,
    ],
  };
}
