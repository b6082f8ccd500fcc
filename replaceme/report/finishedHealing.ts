import { readFile } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import { brokenSeal, parseJsonText } from '../../engine/index.js';
import { keptSteps } from '../healing/checkpointFile.js';
import { reportOf } from '../resume/pruneCheckpoint.js';
import type { HealReport } from './schema/schema.js';

/**
 * The report of the run that a checkpoint is of, where that was killed between giving its output the name and removing the
 * checkpoint: its losses begin with those of the checkpoint. Undefined where the output is something else.
 */
export async function finishedHealing(out: string, checkpoint: string): Promise<HealReport | undefined> {
  try {
    const report = parseJsonText(await readFile(reportOf(out), 'utf8')) as HealReport;
    if (brokenSeal(report) !== undefined || report.kind !== 'heal') return undefined;
    const steps = await keptSteps(checkpoint);
    return isDeepStrictEqual(report.healing.steps.slice(0, steps.length), steps) ? report : undefined;
  } catch {
    return undefined;
  }
}
