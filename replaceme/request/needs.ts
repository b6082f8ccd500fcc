import type { Method, RepairSettings } from '../methods/index.js';

/** The parts of a request that decide whether it reads calibration data. */
interface Needs {
  readonly method: Pick<Method, 'needsCalibration'>;
  readonly settings: Pick<RepairSettings, 'heal'>;
  readonly windows?: unknown;
  readonly gradient?: unknown;
}

/** Whether a run fits weights in closed form: those of the method, or of healed layers. */
export const fitsInClosedForm = ({ method, settings }: Needs): boolean =>
  method.needsCalibration || settings.heal !== false;

/** Whether a run reads calibration data: to fit or train weights, or to choose the windows. */
export const needsCalibration = (request: Needs): boolean =>
  fitsInClosedForm(request) || request.gradient !== undefined || request.windows === undefined;
