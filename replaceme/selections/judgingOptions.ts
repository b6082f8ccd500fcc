import type { ReferenceOptions } from '../../model/index.js';
import { spareRoom } from '../activations/hiddenStates.js';
import type { SelectionContext } from './selection.js';

/** How the original model runs over texts that candidates are judged on. */
export const judgingOptions = ({
  model,
  batchTokens,
  spareBytes = spareRoom(model.device),
}: SelectionContext): Pick<ReferenceOptions, 'batchTokens' | 'stateBytes'> => ({
  stateBytes: spareBytes,
  ...(batchTokens !== undefined && { batchTokens }),
});
