import { graceOf, nextShare, type StepTime, softwareTime } from '../../bench/gpuCheck/budget.js';
import {
  type Details,
  FORMAT,
  type GpuCheckReport,
  type StepName,
  type StepReport,
} from '../../bench/gpuCheck/report.js';
import type { AdapterInfo } from '../../engine/adapterInfo.js';
import { version } from '../terminal/version.js';
import { type RanStep, runStep } from './runStep.js';

export interface CheckOptions {
  readonly steps: readonly StepName[];
  /** Seconds of all steps together. */
  readonly budget: number;
  readonly allowSoftware: boolean;
  readonly adapter?: string | undefined;
  readonly memoryLimit?: number | undefined;
  /** A temporary folder for the steps. */
  readonly folder: string;
  readonly command: readonly string[];
  readonly signal: AbortSignal;
  readonly onProgress: (step: StepName, at: string) => void;
  /** Receives the report after every step. */
  readonly onReport: (report: GpuCheckReport) => Promise<void>;
  /** Runs a step; tests have another one. */
  readonly run?: typeof runStep;
}

const skipped = (step: StepName, limitSeconds: number, budget: number): StepReport => ({
  ...{ step, status: 'skipped', seconds: 0, limitSeconds },
  findings: [{ level: 'note', text: `skipped: the budget of ${budget} s is spent` }],
  ...{ metrics: [], tables: [], details: {} },
});

/** The time of the first of these steps. A GPU that goes on for 20 s longer hangs; that may be beyond the budget. */
function timeOf(
  budget: number,
  left: number,
  steps: readonly StepName[],
  adapter: AdapterInfo | null,
): StepTime | undefined {
  if (adapter?.kind === 'software') return softwareTime(budget, left, steps);
  const seconds = nextShare(left, steps);
  return seconds === undefined ? undefined : { seconds, grace: graceOf(seconds) };
}

/**
 * Runs the steps one after the other within the budget, and reports after each.
 *
 * @throws RmError ADAPTER_NONE where there is no adapter, or no GPU and a software adapter was not allowed.
 */
export async function runSteps(options: CheckOptions): Promise<GpuCheckReport> {
  const { steps, budget, signal, onReport, run = runStep } = options;
  const { allowSoftware, adapter, memoryLimit, folder, command } = options;
  const date = new Date().toISOString();
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const reports: StepReport[] = [];
  const earlier: Partial<Record<StepName, Details>> = {};
  let opened: AdapterInfo | null = null;
  const reportSoFar = (): GpuCheckReport => ({
    ...{ format: FORMAT, version: version(), node: process.version },
    ...{ platform: `${process.platform} ${process.arch}`, date, budgetSeconds: budget, seconds: elapsed() },
    ...{ complete: reports.length === steps.length, adapter: opened, steps: [...reports] },
  });
  let report = reportSoFar();
  for (const [i, step] of steps.entries()) {
    const time = timeOf(budget, budget - elapsed(), steps.slice(i), opened);
    if (!time) reports.push(skipped(step, 0, budget));
    else {
      const { seconds, grace } = time;
      const input = { step, seconds, adapter, memoryLimit, allowSoftware, folder, command, earlier };
      const onProgress = (at: string) => options.onProgress(step, at);
      const ran: RanStep = await run(input, { signal, onProgress, graceSeconds: grace, opened });
      opened ??= ran.adapter ?? null;
      earlier[step] = ran.report.details;
      reports.push(ran.report);
    }
    report = reportSoFar();
    await onReport(report);
  }
  return report;
}
