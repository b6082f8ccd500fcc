import { type Architecture, hasOutNorms } from '../../model/index.js';

/**
 * Why a linear map of a layer's output can't be folded into its weights, nor a projection be fitted by linear regression;
 * undefined where both work.
 */
export const linearRefusal = (arch: Architecture): string | undefined =>
  hasOutNorms(arch)
    ? `${arch.family} models normalise the output of each layer's last linear maps before adding it to the residual stream, ` +
      'which undoes a linear fit'
    : undefined;
