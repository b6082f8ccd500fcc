/** WGSL function `smooth_tanh(x: type) -> type`, of a polynomial and exp: WGSL's own tanh may be off by 1e-5. */
const tanhWgsl = (type: string): string => /* wgsl */ `fn smooth_tanh(x: ${type}) -> ${type} {
  let z = min(abs(x), ${type}(10.0));
  let s = z * z;
  let series = ((((-5.70498872745e-3 * s + 2.06390887954e-2) * s - 5.37397155531e-2) * s + 1.33314422036e-1) * s
    - 3.33332819422e-1) * s * z + z;
  let beyond = 1.0 - 2.0 / (exp(2.0 * z) + 1.0);
  return sign(x) * select(beyond, series, z < ${type}(0.625));
}`;

/** WGSL function `softcap(x: type, cap: f32) -> type`, which is cap * tanh(x / cap), for f32 and its vectors. */
export const softcapWgsl = (type: string): string => `${tanhWgsl(type)}
fn softcap(x: ${type}, cap: f32) -> ${type} { return cap * smooth_tanh(x / cap); }`;

/**
 * Functions in WGSL for T, an alias of f32 or vec4f that the program declares with U and B, its u32 and bool. Any finite
 * input gives a finite result where the function has one.
 *
 * Sources: `gelu` is the exact form by erfc, fractional error 1.2e-7 (Press et al., Numerical Recipes, 2nd ed., 6.2);
 * `gelu_tanh` is x * sigmoid(2u), which is x/2 * (1 + tanh(u)) without its cancellation, `quick_gelu` x * sigmoid(1.702 x)
 * (Hendrycks and Gimpel, arXiv:1606.08415), `relu2` the square of relu (So et al., arXiv:2109.08668). `sine` and `cosine`
 * reduce by pi / 2 in three parts, exactly below 3000, and take Cephes' polynomials of sinf (Moshier, 1989).
 */
const functions = {
  // Exponents are capped where the quotient is too small to matter in any f32 sum, so that exp never gives infinity.
  sigmoid: { needs: [], wgsl: 'fn sigmoid(x: T) -> T { return 1.0 / (1.0 + exp(min(-x, T(80.0)))); }' },
  silu: { needs: ['sigmoid'], wgsl: 'fn silu(x: T) -> T { return x * sigmoid(x); }' },
  gelu_tanh: {
    needs: ['sigmoid'],
    wgsl: `fn gelu_tanh(x: T) -> T {
  let c = clamp(x, T(-20.0), T(20.0));
  return x * sigmoid(1.5957691216057308 * (c + 0.044715 * c * c * c));
}`,
  },
  quick_gelu: { needs: ['sigmoid'], wgsl: 'fn quick_gelu(x: T) -> T { return x * sigmoid(1.702 * x); }' },
  relu: { needs: [], wgsl: 'fn relu(x: T) -> T { return max(x, T(0.0)); }' },
  // Capped where the square would be infinite.
  relu2: {
    needs: [],
    wgsl: `fn relu2(x: T) -> T {
  let y = clamp(x, T(0.0), T(1e19));
  return y * y;
}`,
  },
  erfc_positive: {
    needs: [],
    wgsl: `fn erfc_positive(z: T) -> T {
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
}`,
  },
  gelu: {
    needs: ['erfc_positive'],
    wgsl: `fn gelu(x: T) -> T {
  let half = 0.5 * erfc_positive(min(abs(x) * 0.7071067811865476, T(12.0)));
  return x * select(half, 1.0 - half, x > T(0.0));
}`,
  },
  erf: {
    needs: ['erfc_positive'],
    wgsl: 'fn erf(x: T) -> T { return sign(x) * (1.0 - erfc_positive(min(abs(x), T(12.0)))); }',
  },
  softplus: {
    needs: [],
    wgsl: 'fn softplus(x: T) -> T { return max(x, T(0.0)) + log(1.0 + exp(-abs(x))); }',
  },
  smooth_tanh: { needs: [], wgsl: tanhWgsl('T') },
  // A base below 0 has powers with whole exponents only, others are NaN; WGSL's pow takes none.
  power: {
    needs: [],
    wgsl: `fn power(x: T, y: T) -> T {
  let size = select(pow(abs(x), y), T(1.0), y == T(0.0));
  let negative = x < T(0.0);
  let odd = (floor(y) == y) & (floor(0.5 * y) != 0.5 * y);
  let nan = select(U(0u), U(0x7fc00000u), negative & (floor(y) != y));
  return bitcast<T>(bitcast<U>(select(size, -size, negative & odd)) | nan);
}`,
  },
  /** sin of x + turns * pi / 2. WGSL's own may be off by 2^-11. */
  quarter_turns: {
    needs: [],
    wgsl: `fn quarter_turns(x: T, turns: T) -> T {
  let quarters = round(0.6366197723675814 * x);
  let r = ((x - quarters * 1.5703125) - quarters * 4.837512969970703e-4) - quarters * 7.549789948768648e-8;
  let z = r * r;
  let sine = r + r * z * (-1.6666654611e-1 + z * (8.3321608736e-3 - z * 1.9515295891e-4));
  let cosine = 1.0 - 0.5 * z + z * z * (4.166664568298827e-2 + z * (-1.388731625493765e-3 + z * 2.443315711809948e-5));
  let at = quarters + turns;
  let odd = at - 2.0 * floor(0.5 * at);
  let flipped = floor(0.5 * at) - 2.0 * floor(0.25 * at);
  return select(sine, cosine, odd == T(1.0)) * (1.0 - 2.0 * flipped);
}`,
  },
  sine: { needs: ['quarter_turns'], wgsl: 'fn sine(x: T) -> T { return quarter_turns(x, T(0.0)); }' },
  cosine: { needs: ['quarter_turns'], wgsl: 'fn cosine(x: T) -> T { return quarter_turns(x, T(1.0)); }' },
  finite: {
    needs: [],
    wgsl: 'fn finite(x: T) -> B { return (bitcast<U>(x) & U(0x7f800000u)) != U(0x7f800000u); }',
  },
  not_number: {
    needs: [],
    wgsl: 'fn not_number(x: T) -> B { return (bitcast<U>(x) & U(0x7fffffffu)) > U(0x7f800000u); }',
  },
} satisfies Record<string, { needs: readonly string[]; wgsl: string }>;

/** A function that `mathWgsl` declares. */
export type MathFunction = keyof typeof functions;

/** WGSL of these functions and of those that they call, each once. */
export function mathWgsl(names: Iterable<MathFunction>): string {
  const declared = new Set<MathFunction>();
  const add = (name: MathFunction) => {
    for (const needed of functions[name].needs) add(needed as MathFunction);
    declared.add(name);
  };
  for (const name of names) add(name);
  return [...declared].map(name => functions[name].wgsl).join('\n');
}
