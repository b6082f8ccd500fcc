import { oneOf } from '../../engine/index.js';

import { mathWgsl } from './mathWgsl.js';

/**
 * Activation function of a feed-forward block (Shazeer, GLU Variants Improve Transformer, arXiv:2002.05202). Any finite
 * input gives a finite result.
 */
export type Activation = 'silu' | 'gelu' | 'gelu_tanh' | 'quick_gelu' | 'relu' | 'relu2';

/** WGSL function `activation(x: T) -> T`; the program declares T as an alias of f32 or vec4f. */
export const activationWgsl = (activation: Activation): string =>
  `${mathWgsl([activation])}\nfn activation(x: T) -> T { return ${activation}(x); }`;

const slopes: Record<Activation, string> = {
  silu: `
fn slope(x: T) -> T {
  let s = sigmoid(x);
  return s + x * s * (1.0 - s);
}`,
  gelu_tanh: `
fn slope(x: T) -> T {
  let c = clamp(x, T(-20.0), T(20.0));
  let s = sigmoid(1.5957691216057308 * (c + 0.044715 * c * c * c));
  return s + c * s * (1.0 - s) * 1.5957691216057308 * (1.0 + 0.134145 * c * c);
}`,
  quick_gelu: `
fn slope(x: T) -> T {
  let s = sigmoid(1.702 * x);
  return s + 1.702 * x * s * (1.0 - s);
}`,
  relu2: 'fn slope(x: T) -> T { return 2.0 * max(x, T(0.0)); }',
  relu: 'fn slope(x: T) -> T { return select(T(0.0), T(1.0), x > T(0.0)); }',
  gelu: `
fn slope(x: T) -> T {
  let c = clamp(x, T(-12.0), T(12.0));
  let half = 0.5 * erfc_positive(abs(c) * 0.7071067811865476);
  return select(half, 1.0 - half, x > T(0.0)) + c * 0.3989422804014327 * exp(-0.5 * c * c);
}`,
};

/** The form of an `Activation`. */
export const anActivation = oneOf(...(Object.keys(slopes) as Activation[]));

/** WGSL function `slope(x: T) -> T`, the derivative of `activation`; put it after `activationWgsl`. */
export const activationSlopeWgsl = (activation: Activation): string => slopes[activation];
