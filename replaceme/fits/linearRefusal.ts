import { type Architecture, hasOutNorms } from '../../model/index.js';

/**
 * Why no linear map of what a layer adds can be folded into its weights, and no projection be fitted by linear
 * regression; undefined where it can.
 */
export const linearRefusal = (arch: Architecture): string | undefined =>
  hasOutNorms(arch)
    ? `${arch.family} models have a norm between each layer's last linear maps and the residual stream, which undoes ` +
      'what a linear fit would ask of them'
    : undefined;
