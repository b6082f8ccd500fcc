import type { Device } from '../../engine/index.js';
import type { StatePlacement } from '../../model/index.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import { choosePlacement, type Hindrance } from '../planning/choosePlacement.js';
import { HEADROOM } from '../planning/memoryParts.js';
import { memorySizes } from '../planning/plan.js';
import type { PruneRequest } from '../request/request.js';

const wholeModels: Hindrance = {
  what: 'compare runs whole models side by side',
  fix: 'Use prune with each method: it goes layer by layer, and its report has the same measures (`evaluation`)',
};

/** The memory of a row, with all weights on the device. */
export interface RowPlan {
  /** Where its hidden states are kept. */
  readonly placement: StatePlacement;
  /** Peak bytes, and the part of them that only speeds up the selection of windows. */
  readonly bytes: number;
  readonly spareBytes: number;
}

/**
 * Plans a row, counting the outputs of the original model that all rows are measured against, but not the hidden states
 * that all rows share.
 *
 * @throws RmError OUT_OF_MEMORY where it does not fit, naming the settings that would make it fit.
 */
export async function planRow(
  from: string,
  shared: PruneOptions,
  request: PruneRequest,
  device: Device,
): Promise<RowPlan> {
  const sizes = await memorySizes(from, { ...shared, report: 'full' }, request, device);
  const { placement, memory } = choosePlacement(
    {
      ...sizes,
      selecting: { ...sizes.selecting, kept: 0 },
      besides: 4 * request.arch.hidden * sizes.evaluationTokens,
    },
    [wholeModels],
  );
  return { placement: placement.states, bytes: memory.total, spareBytes: memory.selectionSpare };
}

/** Bytes for each of two kinds of states kept for speed, beside the row that needs most. */
export function sharedRoom(plans: Iterable<RowPlan>, { memory }: Device): number {
  const needed = Math.max(0, ...[...plans].map(({ bytes }) => bytes));
  return Math.max(0, memory.limit / HEADROOM - needed) / 2;
}
