/**
 * Activation function of a feed-forward block, in WGSL for f32 and vec4f. Any finite input gives a finite result.
 *
 * Sources: Shazeer, GLU Variants Improve Transformer (arXiv:2002.05202). `gelu` is the exact form by erfc, fractional
 * error 1.2e-7 (Press et al., Numerical Recipes, 2nd ed., 6.2); `gelu_tanh` is x * sigmoid(2u), which is
 * x/2 * (1 + tanh(u)) without its cancellation, `quick_gelu` x * sigmoid(1.702 x) (Hendrycks and Gimpel,
 * arXiv:1606.08415), `relu2` the square of relu (So et al., arXiv:2109.08668).
 */
export type Activation = 'silu' | 'gelu' | 'gelu_tanh' | 'quick_gelu' | 'relu' | 'relu2';

/** Exponents are capped where the quotient is too small to matter in any f32 sum, so that exp never gives infinity. */
const sigmoid = 'fn sigmoid(x: T) -> T { return 1.0 / (1.0 + exp(min(-x, T(80.0)))); }';

const bodies: Record<Activation, string> = {
  silu: `${sigmoid}\nfn activation(x: T) -> T { return x * sigmoid(x); }`,
  gelu_tanh: `${sigmoid}
fn activation(x: T) -> T {
  let c = clamp(x, T(-20.0), T(20.0));
  return x * sigmoid(1.5957691216057308 * (c + 0.044715 * c * c * c));
}`,
  quick_gelu: `${sigmoid}\nfn activation(x: T) -> T { return x * sigmoid(1.702 * x); }`,
  relu: 'fn activation(x: T) -> T { return max(x, T(0.0)); }',
  // Capped where the square would be infinite.
  relu2: `
fn activation(x: T) -> T {
  let y = clamp(x, T(0.0), T(1e19));
  return y * y;
}`,
  gelu: `
fn erfc_positive(z: T) -> T {
  let t = 1.0 / (1.0 + 0.5 * z);
  var q = T(0.17087277);
  q = -0.82215223 + t * q;
  q = 1.48851587 + t * q;
  q = -1.13520398 + t * q;
  q = 0.27886807 + t * q;
  q = -0.18628806 + t * q;
  q = 0.09678418 + t * q;
  q = 0.37409196 + t * q;
  q = 1.00002368 + t * q;
  return t * exp(-z * z - 1.26551223 + t * q);
}
fn activation(x: T) -> T {
  let half = 0.5 * erfc_positive(min(abs(x) * 0.7071067811865476, T(12.0)));
  return x * select(half, 1.0 - half, x > T(0.0));
}`,
};

/** WGSL function `activation(x: T) -> T`; the program declares T as an alias of f32 or vec4f. */
export const activationWgsl = (activation: Activation): string => bodies[activation];

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

/** WGSL function `slope(x: T) -> T`, the derivative of `activation`; put it after `activationWgsl`. */
export const activationSlopeWgsl = (activation: Activation): string => slopes[activation];
