/**
 * WGSL of f32 addition and multiplication by integer operations alone, rounded to nearest even, for devices whose float
 * operations are unreliable. Results below the normal range become zero; infinity and NaN give infinity or NaN.
 *
 * Source: IEEE 754 addition and multiplication with guard, round and sticky bits (Goldberg, What Every Computer
 * Scientist Should Know About Floating-Point Arithmetic, ACM Computing Surveys 23, 1991).
 */

/**
 * WGSL functions plus(a, b) and times(a, b) for f32, or plus4 and times4 for vec4f. The vec4f forms loop over a length
 * that only the uniform block `p` knows (see RUNTIME_ZERO): a program calls them dozens of times, and drivers would
 * unroll and compile every copy.
 */
export function integerArithmetic(type: 'f32' | 'vec4f'): string {
  if (type === 'f32') return scalar('plus', 'times', '');
  const each = (name: string) => /* wgsl */ `
fn ${name}4(a: vec4f, b: vec4f) -> vec4f {
  var result: vec4f;
  for (var i = 0u; i < 4u + p.zero; i++) { result[i] = ${name}Element(a[i], b[i]); }
  return result;
}`;
  return `${scalar('plusElement', 'timesElement', '4')}${each('plus')}${each('times')}`;
}

/** The scalar functions `plus` and `times`; `n` is the suffix of their helper functions. */
const scalar = (plus: string, times: string, n: string): string => /* wgsl */ `
/** Significand with its leading one; values below the normal range count as zero. */
fn significand${n}(v: u32) -> u32 {
  return select(0u, (v & 0x7fffffu) | 0x800000u, (v & 0x7f800000u) != 0u);
}
fn exponent${n}(v: u32) -> u32 { return (v >> 23u) & 0xffu; }
/** m * 2^(e - 153) with this sign, rounded; m has 27 bits, the last three are guard, round and sticky bits. */
fn rounded${n}(negative: u32, e: i32, m: u32) -> u32 {
  let r = (m + 3u + ((m >> 3u) & 1u)) >> 3u;
  let magnitude = min((bitcast<u32>(e - 1) << 23u) + r, 0x7f800000u);
  return negative | select(magnitude, 0u, e < 1);
}
fn ${plus}(a: f32, b: f32) -> f32 {
  let aBits = bitcast<u32>(a);
  let bBits = bitcast<u32>(b);
  let swap = (aBits & 0x7fffffffu) < (bBits & 0x7fffffffu);
  let x = select(aBits, bBits, swap);
  let y = select(bBits, aBits, swap);
  let ex = exponent${n}(x);
  let mx = significand${n}(x) << 3u;
  let my = significand${n}(y) << 3u;
  let shift = min(ex - exponent${n}(y), 27u);
  let aligned = (my >> shift) | select(0u, 1u, ((my >> shift) << shift) != my);
  let m = select(mx + aligned, mx - aligned, ((x ^ y) >> 31u) != 0u);
  let zeros = countLeadingZeros(m);
  let carry = zeros == 4u;
  let left = select(zeros - 5u, 0u, carry) & 31u;
  let normal = select(m << left, (m >> 1u) | (m & 1u), carry);
  let sum = rounded${n}(x & 0x80000000u, i32(ex) + 5 - i32(zeros), normal);
  let finite = select(sum, x & y & 0x80000000u, m == 0u);
  return bitcast<f32>(select(finite, x, ex == 255u));
}
fn ${times}(a: f32, b: f32) -> f32 {
  let x = bitcast<u32>(a);
  let y = bitcast<u32>(b);
  let negative = (x ^ y) & 0x80000000u;
  let ex = exponent${n}(x);
  let ey = exponent${n}(y);
  let mx = significand${n}(x);
  let my = significand${n}(y);
  let xh = mx >> 12u;
  let xl = mx & 0xfffu;
  let yh = my >> 12u;
  let yl = my & 0xfffu;
  let middle = xh * yl + xl * yh;
  let lower = ((middle & 0xfffu) << 12u) + xl * yl;
  // The product is high * 2^24 + low.
  let high = xh * yh + (middle >> 12u) + (lower >> 24u);
  let low = lower & 0xffffffu;
  let large = high >= 0x800000u;
  let kept = select(20u, 21u, large);
  let below = low & ((1u << kept) - 1u);
  let m = (high << (24u - kept)) | (low >> kept) | select(0u, 1u, below != 0u);
  let product = rounded${n}(negative, i32(ex) + i32(ey) - 127 + select(0, 1, large), m);
  let finite = select(product, negative, mx == 0u || my == 0u);
  let special = negative | (select(x, y, ey == 255u) & 0x7fffffffu);
  return bitcast<f32>(select(finite, special, ex == 255u || ey == 255u));
}`;
