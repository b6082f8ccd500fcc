import { repairInOrder } from '../fits/repairInOrder.js';
import type { Method } from './method.js';

/** The layers are removed and nothing else changes (except by healing, where it is asked for). */
export const plain: Method = {
  name: 'plain',
  summary: 'remove the layers, replace them by nothing',
  source: 'Gromov et al., The Unreasonable Ineffectiveness of the Deeper Layers (UIDL), arXiv:2403.17887',
  selection: 'cosine',
  needsCalibration: false,
  repair: (context, windows) => repairInOrder(context, windows),
};
