import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type exactArithmetic, RUNTIME_ZERO } from '../../engine/exactArithmetic.js';
import { Device, type ProgramSpec, Tensor } from '../../engine/index.js';
import { integerArithmetic } from '../../engine/integerArithmetic.js';
import { seededRandom } from '../../engine/random.js';
import { assertExact, requireExactArithmetic, selfTest } from '../../engine/selftest.js';
import { downloadU32, tensorFrom } from '../../engine/transfer.js';
import { breaksFloats, rejectsWith } from '../gpu.js';

const allExact = { twoSum: true, fastTwoSum: true, twoProduct: true, pairs: true, matmul: true };

for (const exact of ['float', 'integer'] as const) {
  test(`double-single arithmetic by ${exact} operations is exact here`, async () => {
    await using device = await Device.open();
    const before = device.memory.liveBytes;
    assert.equal(await selfTest(device, exact), allExact);
    assert.is(device.memory.liveBytes, before);
  });
}

test('it runs once per device', async () => {
  await using device = await Device.open();
  assert.is(await requireExactArithmetic(device), 'float');
  const { dispatches } = device.recorder;
  assert.is(await requireExactArithmetic(device), 'float');
  assert.is(device.recorder.dispatches, dispatches);
});

test('a failure is SELF_TEST_FAILED and names operation and adapter', async () => {
  const outcome = { ...allExact, twoSum: false, twoProduct: false };
  const message = await rejectsWith(() => assertExact(outcome, 'Some adapter'), 'SELF_TEST_FAILED');
  assert.match(message, 'twoSum, twoProduct are not exact on Some adapter');
});

/** Adds the same two numbers in the arithmetic of the program's target. */
const arithmetic: ProgramSpec = {
  key: 'test target',
  bindings: ['write'],
  wgsl: ({ exact }) => /* wgsl */ `
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@compute @workgroup_size(1) fn main() { out[0] = ${exact === 'integer' ? 1 : 0}u; }`,
};

test('if floats are not exact, integers replace them, also in programs compiled before', async () => {
  await using device = await Device.open();
  using out = Tensor.create(device, [1], 'u32');
  const used = async () => {
    device.recorder.dispatch({ program: arithmetic, tensors: [out], params: [], grid: [1] });
    return (await downloadU32(out))[0];
  };
  assert.is(await used(), 0);
  assert.is(await requireExactArithmetic(device, breaksFloats), 'integer');
  assert.is(await used(), 1);
  assert.is(await requireExactArithmetic(device), 'integer', 'decided once');
});

test('if neither is exact it is SELF_TEST_FAILED', async () => {
  await using device = await Device.open();
  const broken: typeof exactArithmetic = type => breaksFloats(type, 'float');
  await rejectsWith(() => requireExactArithmetic(device, broken), 'SELF_TEST_FAILED');
});

/** out[i] = bits of x[2i] + x[2i+1] and of their product, of each as a vector's element too. */
const sumsAndProducts: ProgramSpec = {
  key: 'test integer arithmetic',
  bindings: ['read', 'write'],
  wgsl: () => /* wgsl */ `
struct Params { ${RUNTIME_ZERO} }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4u>;
${integerArithmetic('f32')}${integerArithmetic('vec4f')}
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  let a = bitcast<f32>(x[2u * id.x]);
  let b = bitcast<f32>(x[2u * id.x + 1u]);
  let sum = plus4(vec4f(b, a, b, a), vec4f(a, b, a, b)).y;
  let product = times4(vec4f(b, a, b, a), vec4f(a, b, a, b)).z;
  out[id.x] = vec4u(bitcast<vec2u>(vec2f(plus(a, b), times(a, b))), bitcast<vec2u>(vec2f(sum, product)));
}`,
};

test('integer sums and products have the bits of the host', async () => {
  await using device = await Device.open();
  const pairs = 1 << 15;
  const random = seededRandom(99);
  const word = () => Math.floor(2 ** 32 * random());
  const floats = new Float32Array(2 * pairs);
  const words = new Uint32Array(floats.buffer);
  const special = [
    0,
    2 ** 31,
    0x7f800000,
    0xff800000,
    0x7fc00000,
    0x800000,
    0x7f7fffff,
    0x3f800000,
    0x33800001,
  ];
  for (let i = 0; i < pairs; i++) {
    const a = word();
    // Exponents far apart, near, opposite neighbours (cancellation), and the ends of the range.
    const near = (a + ((word() & 31) - 16) * 2 ** 23 + (word() & 0xff)) >>> 0;
    const b = [word(), near, (near ^ (2 ** 31)) >>> 0, (a ^ (2 ** 31 + (word() & 3))) >>> 0][i % 4]!;
    const both = i < special.length ** 2;
    words[2 * i] = both ? special[i % special.length]! : a;
    words[2 * i + 1] = both ? special[Math.floor(i / special.length)]! : b;
  }
  using x = tensorFrom(device, words);
  using out = Tensor.create(device, [pairs, 4], 'u32');
  device.recorder.dispatch({ program: sumsAndProducts, tensors: [x, out], params: [0], grid: [pairs / 64] });
  const found = await downloadU32(out);
  const value = new Float32Array(1);
  const bits = new Uint32Array(value.buffer);
  const exponent = (word: number) => (word >>> 23) & 0xff;
  /** A value below the normal range counts as zero of its sign. */
  const flushed = (word: number) => (exponent(word) ? word : (word & (2 ** 31)) >>> 0);
  for (let i = 0; i < pairs; i++) {
    const [a, b] = [0, 1].map(j => {
      bits[0] = flushed(words[2 * i + j]!);
      return value[0]!;
    });
    [a! + b!, a! * b!].forEach((expected, operation) => {
      value[0] = expected;
      for (const got of [found[4 * i + operation]!, found[4 * i + 2 + operation]!]) {
        const what = `${operation ? 'product' : 'sum'} of ${a} and ${b}`;
        if (!Number.isFinite(value[0])) assert.is(exponent(got), 255, what);
        // Rounding up into the normal range is the one case left out.
        else if (exponent(bits[0]!) !== 1) assert.is(got, flushed(bits[0]!), what);
      }
    });
  }
});

test.run();
