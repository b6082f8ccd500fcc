import { appendFileSync, writeFileSync } from 'node:fs';
import { outputError } from '../model/files/outputError.js';
import { checkOutputFile } from '../model/files/outputFile.js';
import { textKind } from '../model/files/outputKind.js';
import type { HealOptions } from '../replaceme/index.js';

const logKind = textKind('a log of rm-engine heal', /^$|^\{"step":\d+,"/);

/**
 * Checks the file of --log before any work, and returns what writes a line of JSON for every step and measurement. The
 * file begins with the first of them: a run that ends before it leaves an earlier log as it was.
 *
 * @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED.
 */
export async function openHealingLog(
  file: string,
  options: { force: boolean; protect: readonly string[] },
): Promise<NonNullable<HealOptions['onRecord']>> {
  await checkOutputFile(file, logKind, options);
  let begun = false;
  return ({ step, ...values }) => {
    const line = `${JSON.stringify({ step, ...('nll' in values ? { heldOut: values } : values) })}\n`;
    try {
      if (begun) appendFileSync(file, line);
      else writeFileSync(file, line);
    } catch (error) {
      throw outputError(error, file);
    }
    begun = true;
  };
}
