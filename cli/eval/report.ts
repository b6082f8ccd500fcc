import type { Device } from '../../engine/device.js';
import { checkKeptFolder } from '../../model/files/keptFolder.js';
import { reportFiles } from '../../model/writing/reportFiles.js';
import type { EvalFindings } from '../../replaceme/report/evalReport.js';
import type { PhaseClock } from '../../replaceme/run/phaseClock.js';

/** Options of `eval` for its report. */
export interface ReportOptions {
  /** The report's folder. */
  report?: string;
  force?: boolean;
}

/** `write` writes the report once the results are there. */
interface OpenReport {
  readonly clock: PhaseClock;
  write(findings: EvalFindings): Promise<void>;
}

/**
 * Checks the folder of --report before the work begins.
 *
 * @throws RmError OUTPUT_EXISTS if it holds a report and `force` is not set, or anything but a report; OUTPUT_FAILED.
 */
export async function checkReport(
  { report, force = false }: ReportOptions,
  protect: readonly string[],
): Promise<void> {
  if (report !== undefined) await checkKeptFolder(report, reportFiles, { force, protect });
}

/** Begins the report of --report; undefined without. */
export async function openReport(
  { report: folder }: ReportOptions,
  device: Device,
): Promise<OpenReport | undefined> {
  if (folder === undefined) return undefined;
  const [{ PhaseClock }, { evalReport }, { replaceReports }] = await Promise.all([
    import('../../replaceme/run/phaseClock.js'),
    import('../../replaceme/report/evalReport.js'),
    import('../../replaceme/report/writeReport.js'),
  ]);
  const clock = new PhaseClock(device);
  const command = ['rm-engine', ...process.argv.slice(2)];
  return {
    clock,
    write: async findings => replaceReports(folder, await evalReport(device, findings, { clock, command })),
  };
}
