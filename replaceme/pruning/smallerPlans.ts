import { type Device, formatBytes, RmError } from '../../engine/index.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import { HEADROOM, LEAST_BATCH } from '../planning/memoryParts.js';
import type { RunPlan } from '../planning/plan.js';

/**
 * Attempts a run; where the device runs out of memory on the way, attempts it again with the next smaller placement, from
 * what the journal has kept, or where there is none in smaller batches, from the beginning: their sums round elsewhere.
 *
 * @param attempt the run, which says what it has `planned` before it computes anything.
 * @throws RmError OUT_OF_MEMORY where nothing smaller exists; what `attempt` throws.
 */
export async function withSmallerPlans<T>(
  device: Device,
  options: PruneOptions,
  attempt: (options: PruneOptions, planned: (plan: RunPlan) => void) => Promise<T>,
): Promise<T> {
  let wanted = options;
  /** The last plan that memory was too short for. */
  let refused: RunPlan | undefined;
  for (;;) {
    let plan: RunPlan | undefined;
    try {
      return await attempt(wanted, of => {
        plan = of;
        if (refused && of.batchTokens < refused.batchTokens) {
          options.onNotice?.(
            `no other placement fits: going on from the beginning in batches of ${of.batchTokens} tokens`,
          );
        }
      });
    } catch (error) {
      if (!(error instanceof RmError) || error.code !== 'OUT_OF_MEMORY') throw error;
      const { restart: _, resume: __, ...rest } = wanted;
      if (plan) {
        if (!(await device.recover(HEADROOM * plan.memory.total - 1))) throw error;
        const { limit } = device.memory;
        options.onNotice?.(`${error.message}: going on with a plan of at most ${formatBytes(limit)}`);
        refused = plan;
        wanted = { ...rest, ...(options.checkpoint !== false && { resume: true }) };
        continue;
      }
      // The first plan: the run fits in no way, and its message says what would.
      const batchTokens = refused && halfBatch(refused, wanted);
      if (batchTokens === undefined) throw error;
      wanted = { ...rest, batchTokens, restart: true };
    }
  }
}

/** Half of the batch; undefined where that holds no whole sequence any more, or is too small to be worth it. */
function halfBatch(
  { batchTokens, sequenceLength }: RunPlan,
  { batchTokens: last = batchTokens }: PruneOptions,
): number | undefined {
  const half = Math.floor(Math.min(last, batchTokens) / 2);
  return half >= Math.max(sequenceLength, LEAST_BATCH) ? half : undefined;
}
