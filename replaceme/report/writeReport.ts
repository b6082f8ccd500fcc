import { basename, dirname, join, resolve } from 'node:path';
import { sealed } from '../../engine/index.js';
import {
  besideModel,
  isGgufPath,
  type ModelOrigin,
  modelName,
  type ReportName,
  replaceReport,
  writeOutputFile,
} from '../../model/index.js';
import { healedCard, modelCard } from './card/modelCard.js';
import type {
  HealReport,
  PruneReport,
  Repeat,
  Report,
  ReportCalibration,
  ReportModel,
} from './schema/schema.js';
import { shownJson } from './text/shownText.js';

/** Writes a small text file. */
type Write = (path: string, text: string) => Promise<void>;

const fileName = (path: string): string => basename(resolve(path));

const namedModel = (model: ReportModel): ReportModel => ({ ...model, path: modelName(model.path) });

const namedFiles = (texts: ReportCalibration): ReportCalibration => ({
  ...texts,
  files: texts.files.map(file => ({ ...file, path: fileName(file.path) })),
});

/** The report with names instead of paths: a published model should not reveal where it was made. */
export function withoutPaths<R extends PruneReport | HealReport>(report: R, repeat: Repeat): R {
  const { model, output } = report;
  const shared = { repeat, model: namedModel(model), output: { ...output, path: fileName(output.path) } };
  if (report.kind === 'heal') {
    const { teacher, data } = report;
    return { ...report, ...shared, ...(teacher && { teacher: namedModel(teacher) }), data: namedFiles(data) };
  }
  const { calibration, evaluation } = report;
  return {
    ...report,
    ...shared,
    calibration: namedFiles(calibration),
    ...(evaluation && {
      evaluation: {
        ...evaluation,
        texts: evaluation.texts.map(text => ({ ...text, file: fileName(text.file) })),
      },
    }),
  };
}

/** Writes report.json with a hash over it, which `heal` checks. @throws RmError OUTPUT_FAILED. */
const writeReportData = (folder: string, report: Report, write: Write = writeOutputFile): Promise<void> =>
  write(join(folder, 'report.json'), `${shownJson(sealed(report))}\n`);

/**
 * Writes report.json and report.html into a folder.
 *
 * @param write writes a file (default: directly, for a folder that is not in its place yet).
 * @throws RmError OUTPUT_FAILED.
 */
export async function writeReport(
  folder: string,
  report: Report,
  write: Write = writeOutputFile,
): Promise<void> {
  await writeReportData(folder, report, write);
  // Imported late: the plotting library takes a while to load.
  const { reportPage } = await import('./page/page.js');
  await write(join(folder, 'report.html'), await reportPage(report));
}

/** Writes report.json and report.html into a folder in place of earlier ones. @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED. */
export const replaceReports = (folder: string, report: Report): Promise<void> =>
  writeReport(folder, report, (path, text) => replaceReport(path, basename(path) as ReportName, text));

/**
 * Writes the documentation of a pruned or healed model: the report and the model card README.md into its folder; for a
 * GGUF file only the report and the recipe, beside it under the file's name.
 *
 * @param to the model's final path.
 * @param target its present path: the folder or file that will be moved there.
 * @param origin of the model that it was made from.
 * @param recipe the text of recipe.yaml, where there is one.
 */
export async function writeDocumentation(
  to: string,
  target: string,
  report: PruneReport | HealReport,
  { origin, recipe }: { origin: ModelOrigin; recipe: string | undefined },
): Promise<void> {
  const write = report.kind === 'heal' || report.evaluation ? writeReport : writeReportData;
  if (isGgufPath(to)) {
    const beside = (name: ReportName, text: string) => replaceReport(besideModel(to, name), name, text);
    await write(dirname(to), report, (path, text) => beside(basename(path) as ReportName, text));
    if (recipe !== undefined) await beside('recipe.yaml', recipe);
    return;
  }
  await write(target, report);
  if (recipe !== undefined) await writeOutputFile(join(target, 'recipe.yaml'), recipe);
  const card = report.kind === 'heal' ? healedCard(report, origin) : modelCard(report, origin);
  await writeOutputFile(join(target, 'README.md'), card);
}
