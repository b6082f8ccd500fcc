import type { PruneOptions } from '../options/pruneOptions.js';
import { finishedReport } from '../report/finishedReport.js';
import type { PruneReport } from '../report/schema/schema.js';
import { checkPrunedOutput } from '../request/request.js';
import { mayBeFinished } from '../resume/pruneCheckpoint.js';

/**
 * The report of the run that `options.resume` asks to go on with, where that was killed after its output was complete;
 * else undefined.
 *
 * @throws RmError OUTPUT_EXISTS where the output is of another run.
 */
export async function reportOfFinishedRun(
  from: string,
  to: string,
  options: PruneOptions,
): Promise<PruneReport | undefined> {
  if (!mayBeFinished(to, options)) return undefined;
  const report = await finishedReport(to);
  if (!report) await checkPrunedOutput(from, to, options);
  return report;
}
