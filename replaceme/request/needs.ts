import type { PruneRequest } from './request.js';

type Needs = Pick<PruneRequest, 'method' | 'settings' | 'windows' | 'gradient'>;

/** Whether a run fits weights on calibration data: those of the method, of healed layers, or by gradient. */
export const fitsWeights = ({ method, settings, gradient }: Omit<Needs, 'windows'>): boolean =>
  method.needsCalibration || settings.heal || gradient !== undefined;

/** Whether a run reads calibration data: to fit weights, or to choose the windows. */
export const needsCalibration = (request: Needs): boolean =>
  fitsWeights(request) || request.windows === undefined;
