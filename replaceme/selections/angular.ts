import type { DistanceMeasure } from '../windowMap/windowDistances.js';
import { equalWindowDistances, nearestWindow } from './cosine.js';
import type { Selection, SelectionContext } from './selection.js';

/** acos(cos) / pi of the last real token, computed from d = 1 - cos by the half angle, which keeps small angles exact. */
export const lastTokenAngle: DistanceMeasure = {
  rows: ({ lastRows }) => lastRows,
  of: distance => (2 / Math.PI) * Math.asin(Math.sqrt(Math.min(1, distance / 2))),
};

// Only one token of a sequence counts, so all batches are needed.
const distanceSums = (context: SelectionContext) =>
  equalWindowDistances(context, 'mean angular distance of last tokens', context.batches, lastTokenAngle);

export const angular: Selection = {
  name: 'angular',
  summary: 'smallest mean angle between the ends of a window, at the last token of every sequence',
  source: 'Gromov et al., The Unreasonable Ineffectiveness of the Deeper Layers (UIDL), arXiv:2403.17887',
  dividesInWindows: 'equal',
  layerByLayer: true,
  distanceSums,
  select: context => nearestWindow(context, distanceSums(context)),
};
