import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Device } from '../../engine/device.js';
import { RmError } from '../../engine/errors.js';
import { outputError } from '../../model/files/outputFolder.js';
import type { EvalFindings } from '../../replaceme/report/evalReport.js';
import type { PhaseClock } from '../../replaceme/run/phaseClock.js';

/** Options of `eval` for its report. */
export interface ReportOptions {
  /** The report's folder. */
  report?: string;
  force?: boolean;
}

/** A report whose folder exists; `write` fills it once the results are there. */
interface OpenReport {
  readonly clock: PhaseClock;
  write(findings: EvalFindings): Promise<void>;
}

/**
 * Creates the folder of --report before the work begins; undefined without --report.
 *
 * @throws RmError OUTPUT_EXISTS if the folder holds a report and `force` is not set; OUTPUT_FAILED.
 */
export async function openReport(
  { report: folder, force = false }: ReportOptions,
  device: Device,
): Promise<OpenReport | undefined> {
  if (folder === undefined) return undefined;
  const path = join(folder, 'report.json');
  if (!force && existsSync(path)) {
    throw new RmError('OUTPUT_EXISTS', `${path}: exists already`, 'Choose another folder, or add --force.');
  }
  await mkdir(folder, { recursive: true }).catch(error => Promise.reject(outputError(error, folder)));
  const [{ PhaseClock }, { evalReport }, { writeReport }, { writeWhole }] = await Promise.all([
    import('../../replaceme/run/phaseClock.js'),
    import('../../replaceme/report/evalReport.js'),
    import('../../replaceme/report/writeReport.js'),
    import('../../replaceme/compare/rows.js'),
  ]);
  const clock = new PhaseClock(device);
  const command = ['rm-engine', ...process.argv.slice(2)];
  return {
    clock,
    write: async findings =>
      writeReport(folder, await evalReport(device, findings, { clock, command }), writeWhole),
  };
}
