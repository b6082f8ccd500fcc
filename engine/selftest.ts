import type { Device } from './device.js';
import { RmError } from './errors.js';
import { exactArithmetic, RUNTIME_ZERO } from './exactArithmetic.js';
import type { ProgramSpec, ProgramTarget } from './program.js';
import { seededRandom } from './random.js';
import { Tensor } from './tensor.js';
import { downloadF32, tensorFrom } from './transfer.js';

/** Which operations are exact on this adapter and driver. */
interface SelfTest {
  /** hi + lo = a + b for every test pair. */
  twoSum: boolean;
  fastTwoSum: boolean;
  /** hi + lo = a * b for every test pair. */
  twoProduct: boolean;
  /** Sums of products of pairs keep 40 bits: an operation that is exact alone may break when it is inlined. */
  pairs: boolean;
  /** A product of small integer matrices is exact. */
  matmul: boolean;
}

const PAIRS = 2048;
const TERMS = 16;
/** Results per invocation. */
const COLUMNS = 12;
const SIZE = 24;

type Exact = ProgramTarget['exact'];

const transformations = (exact: Exact, arithmetic: typeof exactArithmetic): ProgramSpec => ({
  key: `self-test error-free transformations ${exact}`,
  bindings: ['read', 'write'],
  wgsl: () => /* wgsl */ `
struct Params { count: u32, terms: u32, ${RUNTIME_ZERO} }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
${arithmetic('f32', exact)}${arithmetic('vec4f', exact)}
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= p.count) { return; }
  let a = x[2u * id.x];
  let b = x[2u * id.x + 1u];
  let s = twoSum(a, b);
  let f = fastTwoSum(select(b, a, abs(a) >= abs(b)), select(a, b, abs(a) >= abs(b)));
  let t = twoProduct(a, b);
  let s4 = twoSum4(vec4f(a, b, a, b), vec4f(b, a, b, a));
  let t4 = twoProduct4(vec4f(a, b, a, b), vec4f(b, a, b, a));
  var sum = Pair();
  for (var k = 0u; k < p.terms; k++) {
    let j = 2u * ((id.x + k) % p.count);
    sum = normalise(multiplyAdd(addPair(sum, Pair(x[j], 0.0)), Pair(x[j], 0.0), Pair(x[j + 1u], 0.0)));
    sum = add(sum, x[j + 1u]);
  }
  let at = ${COLUMNS}u * id.x;
  out[at] = s.hi; out[at + 1u] = s.lo;
  out[at + 2u] = f.hi; out[at + 3u] = f.lo;
  out[at + 4u] = t.hi; out[at + 5u] = t.lo;
  out[at + 6u] = s4.hi.y; out[at + 7u] = s4.lo.y;
  out[at + 8u] = t4.hi.z; out[at + 9u] = t4.lo.z;
  out[at + 10u] = sum.hi; out[at + 11u] = sum.lo;
}`,
});

const product: ProgramSpec = {
  key: 'self-test matmul',
  bindings: ['read', 'read', 'write'],
  wgsl: () => /* wgsl */ `
struct Params { size: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(8, 8) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= p.size || id.y >= p.size) { return; }
  var sum = 0.0;
  for (var k = 0u; k < p.size; k++) { sum += a[id.y * p.size + k] * b[k * p.size + id.x]; }
  out[id.y * p.size + id.x] = sum;
}`,
};

/** Pairs of either sign with full mantissas and exponents 0 to 30 apart; f64 holds their sums and products exactly. */
function samplePairs(): Float32Array {
  const random = seededRandom(12345);
  const below = (limit: number) => Math.floor(limit * random());
  return Float32Array.from({ length: 2 * PAIRS }, (_, i) => {
    const mantissa = 1 + below(2 ** 23) / 2 ** 23;
    const exponent = i % 2 ? below(28) : 0;
    return (below(2) ? -1 : 1) * mantissa * 2 ** (8 - exponent);
  });
}

/**
 * Runs the transformations and a small product on the device and compares the results with the host's in f64.
 *
 * @param exact the arithmetic to test.
 * @param arithmetic its WGSL; tests pass one that fails.
 */
export async function selfTest(
  device: Device,
  exact: Exact = 'float',
  arithmetic = exactArithmetic,
): Promise<SelfTest> {
  const rec = device.recorder;
  const pairs = samplePairs();
  using x = tensorFrom(device, pairs);
  using out = Tensor.create(device, [PAIRS, COLUMNS]);
  rec.dispatch({
    program: transformations(exact, arithmetic),
    tensors: [x, out],
    params: [PAIRS, TERMS, 0],
    grid: [PAIRS / 64],
  });
  const computed = await downloadF32(out);
  const matches = (column: number, expected: (a: number, b: number) => number) => {
    for (let i = 0; i < PAIRS; i++) {
      const value = expected(pairs[2 * i]!, pairs[2 * i + 1]!);
      const high = Math.fround(value);
      const at = COLUMNS * i + column;
      if (computed[at] !== high || computed[at + 1] !== Math.fround(value - high)) return false;
    }
    return true;
  };
  const accurate = () => {
    for (let i = 0; i < PAIRS; i++) {
      let [expected, size] = [0, 0];
      for (let k = 0; k < TERMS; k++) {
        const j = 2 * ((i + k) % PAIRS);
        const [a, b] = [pairs[j]!, pairs[j + 1]!];
        expected += a + a * b + b;
        size += Math.abs(a) + Math.abs(a * b) + Math.abs(b);
      }
      const at = COLUMNS * i + 10;
      if (!(Math.abs(computed[at]! + computed[at + 1]! - expected) <= 2 ** -40 * size)) return false;
    }
    return true;
  };
  const sum = (a: number, b: number) => a + b;
  const times = (a: number, b: number) => a * b;

  const left = Float32Array.from({ length: SIZE * SIZE }, (_, i) => ((i * 37) % 61) - 30);
  const right = Float32Array.from({ length: SIZE * SIZE }, (_, i) => ((i * 53) % 67) - 33);
  using a = tensorFrom(device, left);
  using b = tensorFrom(device, right);
  using c = Tensor.create(device, [SIZE, SIZE]);
  rec.dispatch({ program: product, tensors: [a, b, c], params: [SIZE], grid: [SIZE / 8, SIZE / 8] });
  const matrix = await downloadF32(c);
  const matmul = matrix.every((value, at) => {
    let expected = 0;
    for (let k = 0; k < SIZE; k++) {
      expected += left[Math.floor(at / SIZE) * SIZE + k]! * right[k * SIZE + (at % SIZE)]!;
    }
    return value === expected;
  });
  return {
    twoSum: matches(0, sum) && matches(6, sum),
    fastTwoSum: matches(2, sum),
    twoProduct: matches(4, times) && matches(8, times),
    pairs: accurate(),
    matmul,
  };
}

const decisions = new WeakMap<Device, Promise<SelfTest>>();

/** Tests float arithmetic, then integer arithmetic, and sets the first that is exact on the device. */
async function decide(device: Device, arithmetic: typeof exactArithmetic): Promise<SelfTest> {
  const outcome = await selfTest(device, 'float', arithmetic);
  if (failures(outcome).length === 0) return outcome;
  const safe = await selfTest(device, 'integer', arithmetic);
  if (failures(safe).length > 0) return outcome;
  device.programs.exact = 'integer';
  return safe;
}

/**
 * Runs the self-test once per device and sets how its programs do exact arithmetic: with floats, or with integers if the
 * driver's optimiser breaks the float operations (30 to 60 times slower on lavapipe).
 *
 * @param arithmetic WGSL that tests pass in place of the real one.
 * @throws RmError SELF_TEST_FAILED when double-single arithmetic is exact neither way.
 */
export async function requireExactArithmetic(device: Device, arithmetic = exactArithmetic): Promise<Exact> {
  let decision = decisions.get(device);
  if (!decision) {
    decision = decide(device, arithmetic);
    decisions.set(device, decision);
  }
  assertExact(await decision, device.info.description);
  return device.programs.exact;
}

const failures = (outcome: SelfTest): string[] =>
  Object.entries(outcome).flatMap(([name, passed]) => (passed ? [] : [name]));

/** @throws RmError SELF_TEST_FAILED, which names the operations that failed. */
export function assertExact(outcome: SelfTest, adapter: string): void {
  const failed = failures(outcome);
  if (failed.length === 0) return;
  throw new RmError(
    'SELF_TEST_FAILED',
    `${failed.join(', ')} ${failed.length > 1 ? 'are' : 'is'} not exact on ${adapter}`,
    'Update the graphics driver or choose another `adapter`; report it with the output of: rm-engine doctor',
  );
}
