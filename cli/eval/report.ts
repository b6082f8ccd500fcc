import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Device } from '../../engine/device.js';
import { RmError } from '../../engine/errors.js';
import { outputError } from '../../model/files/outputFolder.js';
import type { EvalFindings } from '../../replaceme/report/evalReport.js';
import type { PhaseClock } from '../../replaceme/run/phaseClock.js';

/** Options of `eval` about its report. */
export interface ReportOptions {
  /** The folder that it goes to. */
  report?: string;
  force?: boolean;
}

/** A report that `eval` is to write. */
export interface OpenReport {
  readonly clock: PhaseClock;
  write(found: EvalFindings): Promise<void>;
}

/**
 * Makes the folder before any work is done for it; undefined where no report is asked for.
 *
 * @throws RmError OUTPUT_EXISTS where it holds a report, without `force`; OUTPUT_FAILED.
 */
export async function openReport(
  { report: folder, force = false }: ReportOptions,
  device: Device,
): Promise<OpenReport | undefined> {
  if (folder === undefined) return undefined;
  const path = join(folder, 'report.json');
  if (!force && existsSync(path)) {
    throw new RmError('OUTPUT_EXISTS', `${path}: is there already`, 'Choose another folder, or add --force.');
  }
  await mkdir(folder, { recursive: true }).catch(error => Promise.reject(outputError(error, folder)));
  const [{ PhaseClock }, { evalReport }, { writeReport }, { writeWhole }] = await Promise.all([
    import('../../replaceme/run/phaseClock.js'),
    import('../../replaceme/report/evalReport.js'),
    import('../../replaceme/report/write.js'),
    import('../../replaceme/compare/rows.js'),
  ]);
  const run = {
    clock: new PhaseClock(device),
    command: ['rm-engine', ...process.argv.slice(2)],
  };
  return {
    clock: run.clock,
    write: async found => writeReport(folder, await evalReport(device, found, run), writeWhole),
  };
}
