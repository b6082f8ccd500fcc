import type { Device } from '../../engine/index.js';
import type { StatePlacement } from '../../model/index.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import { choosePlacement, type Hindrance } from '../planning/choosePlacement.js';
import { HEADROOM } from '../planning/memoryParts.js';
import { memorySizes } from '../planning/plan.js';
import type { PruneRequest } from '../request/request.js';

const wholeModels: Hindrance = {
  what: 'compare runs whole models side by side',
  fix: 'Use prune with each method: it goes layer by layer, and its report has the same measures (--eval)',
};

/** What a row takes, with all weights on the device. */
export interface RowPlan {
  /** Where its hidden states are to be. */
  readonly placement: StatePlacement;
  /** Bytes at the most, and of these those for speed alone while windows are selected. */
  readonly bytes: number;
  readonly spareBytes: number;
}

/**
 * Plans a row, beside the outputs of the original model that all rows are measured against; states that all begin with
 * are not counted.
 *
 * @throws RmError OUT_OF_MEMORY where it does not fit, with what would make it fit.
 */
export async function planRow(
  from: string,
  shared: PruneOptions,
  request: PruneRequest,
  device: Device,
): Promise<RowPlan> {
  const sizes = await memorySizes(from, { ...shared, report: true }, request, device);
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

/** Bytes that states for speed may take, each of two kinds, beside the rows that need most. */
export function sharedRoom(plans: Iterable<RowPlan>, { memory }: Device): number {
  const needed = Math.max(0, ...[...plans].map(({ bytes }) => bytes));
  return Math.max(0, memory.limit / HEADROOM - needed) / 2;
}
