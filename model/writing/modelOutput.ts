import { basename, dirname, join } from 'node:path';
import { isGgufPath } from '../files/ggufPath.js';
import {
  checkOutputFile,
  checkOutputFolder,
  type OutputFolderOptions,
  withOutputFile,
  withOutputFolder,
} from '../files/outputFolder.js';

/** Path of a companion file of a GGUF file: "model.report.json" beside "model.gguf". */
export const besideModel = (model: string, name: string): string =>
  join(dirname(model), `${basename(model).replace(/\.gguf$/i, '')}.${name}`);

/**
 * Checks that a model may be written at `out`, a file if it ends in .gguf, else a folder.
 *
 * @throws RmError OUTPUT_EXISTS, as checkOutputFile and checkOutputFolder.
 */
export async function checkModelOutput(out: string, options: OutputFolderOptions = {}): Promise<void> {
  await (isGgufPath(out) ? checkOutputFile : checkOutputFolder)(out, options);
}

/** Runs `work` on a temporary path beside `out`, which replaces `out` at the end; see withOutputFolder. */
export const withModelOutput = <T>(
  out: string,
  options: OutputFolderOptions,
  work: (path: string) => Promise<T>,
): Promise<T> => (isGgufPath(out) ? withOutputFile : withOutputFolder)(out, options, work);
