import { readFile } from 'node:fs/promises';
import { sha256 } from '../../engine/index.js';
import { CheckpointFolder } from '../resume/checkpointFolder.js';
import { checkpointPath, FINISHED, reportOf } from '../resume/pruneCheckpoint.js';
import type { PruneReport } from './schema/schema.js';

/**
 * The report of a run that was killed after renaming its output but before removing its checkpoint; removes the checkpoint
 * now. Undefined where the output is something else.
 */
export async function finishedReport(out: string): Promise<PruneReport | undefined> {
  const { folder, state } = await CheckpointFolder.open(checkpointPath(out));
  try {
    const bytes = await readFile(reportOf(out));
    if (state.done[`/${FINISHED}`] !== sha256(bytes)) return undefined;
    await folder.remove();
    const { sha256: _, ...report } = JSON.parse(bytes.toString('utf8')) as PruneReport & { sha256?: string };
    return report;
  } finally {
    await folder.close();
  }
}
