import type { Device } from '../../engine/index.js';
import type { StateHome } from '../../model/batchTensors.js';
import { choosePlacement, type Hindrance } from '../memoryPlan.js';
import { memorySizes } from '../plan.js';
import type { PruneOptions } from '../pruneOptions.js';
import type { PruneRequest } from '../request.js';

const wholeModels: Hindrance = {
  what: 'compare runs whole models side by side',
  fix: 'Use prune with each method: it goes layer by layer, and its report has the same measures (--eval)',
};

/**
 * Where hidden states of a row are to be, with all weights on the device.
 *
 * @throws RmError OUT_OF_MEMORY where that does not fit, with what would make it fit.
 */
export async function placeRow(
  from: string,
  shared: PruneOptions,
  request: PruneRequest,
  device: Device,
): Promise<StateHome> {
  const sizes = await memorySizes(from, shared, request, device);
  return choosePlacement(sizes, [wholeModels]).placement.states;
}
