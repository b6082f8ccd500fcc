import { basename, join, resolve } from 'node:path';
import { writeOutputFile } from '../../model/checkpoint/outputFolder.js';
import { modelName } from '../../model/hub/locate.js';
import { modelCard } from '../modelCard.js';
import type { PruneReport, Repeat, Report } from './schema.js';

/** A small file's text, and where it goes. */
type Write = (path: string, text: string) => Promise<void>;

const fileName = (path: string): string => basename(resolve(path));

/** The report with names in place of paths: a published model should not tell where it was made. */
export function withoutPaths(report: PruneReport, repeat: Repeat): PruneReport {
  const { model, output, calibration, evaluation } = report;
  return {
    ...report,
    repeat,
    model: { ...model, path: modelName(model.path) },
    output: { ...output, path: fileName(output.path) },
    calibration: {
      ...calibration,
      files: calibration.files.map(file => ({ ...file, path: fileName(file.path) })),
    },
    ...(evaluation && {
      evaluation: {
        ...evaluation,
        texts: evaluation.texts.map(text => ({ ...text, file: fileName(text.file) })),
      },
    }),
  };
}

/** Writes report.json. @throws RmError OUTPUT_FAILED. */
export const writeReportData = (
  folder: string,
  report: Report,
  write: Write = writeOutputFile,
): Promise<void> => write(join(folder, 'report.json'), `${JSON.stringify(report, null, 2)}\n`);

/**
 * Writes report.json and report.html into a folder.
 *
 * @param write how: into a folder that is not in its place yet as it comes, else beside its place and moved there.
 * @throws RmError OUTPUT_FAILED.
 */
export async function writeReport(
  folder: string,
  report: Report,
  write: Write = writeOutputFile,
): Promise<void> {
  await writeReportData(folder, report, write);
  // The plotting library takes a while to load.
  const { reportPage } = await import('./page.js');
  await write(join(folder, 'report.html'), await reportPage(report));
}

/** Writes what a pruned model says of itself into its folder: the report, and the model card README.md. */
export async function writeDocumentation(folder: string, report: PruneReport): Promise<void> {
  await (report.evaluation ? writeReport : writeReportData)(folder, report);
  await writeOutputFile(join(folder, 'README.md'), modelCard(report));
}
