import { repairInOrder } from '../fits/repairInOrder.js';
import type { Method } from './method.js';

/** Removes the layers and changes nothing else, except by healing where the settings ask for it. */
export const plain: Method = {
  name: 'plain',
  summary: 'remove the layers, replace them by nothing',
  source: 'Gromov et al., The Unreasonable Ineffectiveness of the Deeper Layers (UIDL), arXiv:2403.17887',
  selection: 'cosine',
  needsCalibration: false,
  repair: (context, windows) => repairInOrder(context, windows),
};
