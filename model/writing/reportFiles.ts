import { isGgufPath } from '../files/ggufPath.js';
import { writeOutputFile } from '../files/outputError.js';
import { checkOutputFile, withOutputFile } from '../files/outputFile.js';
import { type FileKind, textKind } from '../files/outputKind.js';
import type { OutputOptions } from '../files/outputPlace.js';
import { besideModel } from './besideModel.js';

/** The reports beside or within a model, by file name. */
export const reportFiles = {
  'report.json': textKind('a report of rm-engine', /^\s*\{\s*"schema":\s*"rm-engine-report\//),
  'report.html': textKind(
    'a report of rm-engine',
    /^<!doctype html>[\s\S]*<meta name="generator" content="rm-engine /,
  ),
  'recipe.yaml': textKind('a recipe of rm-engine', /^# A recipe of rm-engine\b/),
} as const satisfies Record<string, FileKind>;

export type ReportName = keyof typeof reportFiles;

/** Whether a file has the name of a report. */
export const isReportName = (name: string): name is ReportName => Object.hasOwn(reportFiles, name);

/** Writes a report, or replaces an earlier one; never another file of that name. @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED. */
export const replaceReport = (path: string, name: ReportName, text: string): Promise<void> =>
  withOutputFile(path, reportFiles[name], { force: true }, temporary => writeOutputFile(temporary, text));

/**
 * Checks before any work that the reports beside a GGUF file may be written; within a folder they are part of it.
 *
 * @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED.
 */
export async function checkReportsBeside(model: string, options: OutputOptions): Promise<void> {
  if (!isGgufPath(model)) return;
  for (const [name, kind] of Object.entries(reportFiles)) {
    await checkOutputFile(besideModel(model, name), kind, options);
  }
}
