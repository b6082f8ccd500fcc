import { isGgufPath } from '../files/ggufPath.js';
import { checkOutputFile } from '../files/outputFile.js';
import { checkOutputFolder } from '../files/outputFolder.js';
import type { CheckedOutput, OutputOptions } from '../files/outputPlace.js';
import { locateModel } from '../hub/locate.js';
import { ggufFile, modelFolder } from './modelKinds.js';

/**
 * Checks that a model made from `from` may be written at `out`, a file if it ends in .gguf, else a folder.
 *
 * @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED, as checkOutputFile and checkOutputFolder.
 */
export async function checkModelOutput(
  from: string,
  out: string,
  options: OutputOptions = {},
): Promise<CheckedOutput> {
  return isGgufPath(out)
    ? await checkOutputFile(out, ggufFile, options)
    : await checkOutputFolder(out, modelFolder((await locateModel(from)).path), options);
}
