import { type Device, formatBytes, RmError } from '../../engine/index.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import { HEADROOM } from '../planning/memoryParts.js';
import type { RunPlan } from '../planning/plan.js';

/**
 * Attempts a run; where the device runs out of memory on the way, attempts it again with the next smaller plan, from what
 * the journal has kept.
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
  for (;;) {
    let plan: RunPlan | undefined;
    try {
      return await attempt(wanted, of => {
        plan = of;
      });
    } catch (error) {
      // Without a plan the run did not begin: it fits in no way.
      if (!plan || !(error instanceof RmError) || error.code !== 'OUT_OF_MEMORY') throw error;
      if (!(await device.recover(HEADROOM * plan.memory.total - 1))) throw error;
      const { limit } = device.memory;
      options.onNotice?.(`${error.message}: going on with a plan of at most ${formatBytes(limit)}`);
      const { restart: _, ...rest } = wanted;
      wanted = { ...rest, ...(options.checkpoint !== false && { resume: true }) };
    }
  }
}
