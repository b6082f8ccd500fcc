import type { Device } from '../../engine/index.js';
import { type LoadOptions, Model } from '../../model/index.js';
import { dtypeOf, type PruneOptions } from '../options/pruneOptions.js';
import { type RunHooks, runHooks } from '../run/runHooks.js';
import type { Placement } from './memoryParts.js';

/** How Model.load offloads layers under a plan. */
export const offloadOf = ({ weights }: Pick<Placement, 'weights'>): LoadOptions['offload'] =>
  weights !== 'device' && { prefetch: weights === 'streamed' };

/** Loads a model in `options.dtype`, its weights where the plan puts them. @throws RmError as Model.load. */
export const loadPlanned = (
  device: Device,
  from: string,
  options: RunHooks & Pick<PruneOptions, 'dtype'>,
  placement: Placement,
  kind: Pick<LoadOptions, 'images'> = {},
): Promise<Model> =>
  Model.load(device, from, {
    ...runHooks(options),
    ...dtypeOf(options),
    offload: offloadOf(placement),
    ...kind,
  });
