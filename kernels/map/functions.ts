import type { MathFunction } from '../shared/mathWgsl.js';

/** A function of floats that an expression may call. */
export interface ExpressionFunction {
  readonly args: number;
  /** WGSL of the result; T is f32 or vec4f. */
  wgsl(...args: string[]): string;
  /** What it calls of `mathWgsl`. */
  readonly needs?: MathFunction;
  /** The result is true or false. */
  readonly logical?: boolean;
  /** Integers are taken too, and give one. */
  readonly integers?: boolean;
}

const builtIn = (name: string, args = 1): ExpressionFunction => ({
  args,
  wgsl: (...given) => `${name}(${given.join(', ')})`,
});
const helper = (name: MathFunction, args = 1): ExpressionFunction => ({
  ...builtIn(name, args),
  needs: name,
});

/** All functions by the names that expressions use; `f32` and `u32`, which convert, are not among them. */
export const functions: ReadonlyMap<string, ExpressionFunction> = new Map(
  Object.entries({
    abs: builtIn('abs'),
    ceil: builtIn('ceil'),
    clamp: { args: 3, wgsl: (x, low, high) => `min(max(${x}, ${low}), ${high})`, integers: true },
    cos: helper('cosine'),
    erf: helper('erf'),
    exp: builtIn('exp'),
    exp2: builtIn('exp2'),
    floor: builtIn('floor'),
    gelu: helper('gelu'),
    gelu_tanh: helper('gelu_tanh'),
    isFinite: { ...helper('finite'), logical: true },
    isNaN: { ...helper('not_number'), logical: true },
    log: builtIn('log'),
    log2: builtIn('log2'),
    max: { ...builtIn('max', 2), integers: true },
    min: { ...builtIn('min', 2), integers: true },
    pow: helper('power', 2),
    quick_gelu: helper('quick_gelu'),
    relu: helper('relu'),
    relu2: helper('relu2'),
    round: builtIn('round'),
    rsqrt: builtIn('inverseSqrt'),
    sigmoid: helper('sigmoid'),
    sign: builtIn('sign'),
    silu: helper('silu'),
    sin: helper('sine'),
    softplus: helper('softplus'),
    sqrt: builtIn('sqrt'),
    tanh: helper('smooth_tanh'),
    trunc: builtIn('trunc'),
  } satisfies Record<string, ExpressionFunction>),
);
