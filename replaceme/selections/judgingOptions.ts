import type { ReferenceOptions } from '../../model/index.js';
import { spareRoom } from '../activations/hiddenStates.js';
import type { SelectionContext } from './selection.js';

/** Options for running the original model over the texts that judge candidates. */
export const judgingOptions = ({
  model,
  batchTokens,
  spareBytes = spareRoom(model.device),
}: SelectionContext): Pick<ReferenceOptions, 'batchTokens' | 'stateBytes'> => ({
  stateBytes: spareBytes,
  ...(batchTokens !== undefined && { batchTokens }),
});
