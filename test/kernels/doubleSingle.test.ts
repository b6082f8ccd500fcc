import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, type ProgramSpec, Scope } from '../../engine/index.js';
import {
  createDoubleSingle,
  disposeDoubleSingle,
  downloadF64,
  exactArithmetic,
  pairDivision,
  RUNTIME_ZERO,
  uploadF64,
} from '../../kernels/shared/doubleSingle.js';
import { normals } from '../gpu.js';

const COUNT = 1000;

/** out = [a / b, sqrt(|a|), the sum of a b over 40 pairs from here on] */
const operations: ProgramSpec = {
  key: 'test pair operations',
  bindings: ['read', 'read', 'read', 'read', 'write', 'write'],
  wgsl: ({ exact }) => /* wgsl */ `
struct Params { count: u32, ${RUNTIME_ZERO} }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> aHi: array<f32>;
@group(0) @binding(2) var<storage, read> aLo: array<f32>;
@group(0) @binding(3) var<storage, read> bHi: array<f32>;
@group(0) @binding(4) var<storage, read> bLo: array<f32>;
@group(0) @binding(5) var<storage, read_write> outHi: array<f32>;
@group(0) @binding(6) var<storage, read_write> outLo: array<f32>;
${exactArithmetic('f32', exact)}${pairDivision}
fn store(at: u32, v: Pair) { outHi[at] = v.hi; outLo[at] = v.lo; }
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  if (i >= p.count) { return; }
  let a = Pair(aHi[i], aLo[i]);
  store(3u * i, divide(a, Pair(bHi[i], bLo[i])));
  let sign = select(1.0, -1.0, a.hi < 0.0);
  store(3u * i + 1u, squareRoot(Pair(sign * a.hi, sign * a.lo)));
  var s = Pair();
  for (var k = 0u; k < 40u; k++) {
    let j = (i + k) % p.count;
    s = multiplyAdd(s, Pair(aHi[j], aLo[j]), Pair(bHi[j], bLo[j]));
  }
  store(3u * i + 2u, normalise(s));
}`,
};

test('quotients, roots and sums of products have 44 bits', async () => {
  await using device = await Device.open();
  using scope = new Scope(device);
  const noise = normals(4 * COUNT, 3);
  const numbers = (from: number) =>
    Float64Array.from({ length: COUNT }, (_, i) => {
      // A pair holds 48 bits.
      const high = Math.fround(noise[from + i]! * 10 ** ((i % 9) - 4));
      return high + Math.fround(high * 2 ** -25 * Math.tanh(noise[from + COUNT + i]!));
    });
  const [a, b] = [numbers(0), numbers(2 * COUNT)];
  const [x, y] = [await uploadF64(device, a, [COUNT]), await uploadF64(device, b, [COUNT])];
  const out = createDoubleSingle(scope, [COUNT, 3]);
  device.recorder.dispatch({
    program: operations,
    tensors: [x.hi, x.lo, y.hi, y.lo, out.hi, out.lo],
    params: [COUNT, 0],
    grid: [Math.ceil(COUNT / 64)],
  });
  const found = await downloadF64(out);
  for (let i = 0; i < COUNT; i++) {
    const quotient = a[i]! / b[i]!;
    assert.ok(Math.abs(found[3 * i]! - quotient) <= 2 ** -44 * Math.abs(quotient), `quotient ${i}`);
    const root = Math.sqrt(Math.abs(a[i]!));
    assert.ok(Math.abs(found[3 * i + 1]! - root) <= 2 ** -44 * root, `root ${i}`);
    let sum = 0;
    let size = 0;
    for (let k = 0; k < 40; k++) {
      const product = a[(i + k) % COUNT]! * b[(i + k) % COUNT]!;
      sum += product;
      size += Math.abs(product);
    }
    assert.ok(Math.abs(found[3 * i + 2]! - sum) <= 2 ** -44 * size, `sum ${i}`);
  }
  disposeDoubleSingle(x);
  disposeDoubleSingle(y);
});

test('f64 values survive the round trip with 48 bits', async () => {
  await using device = await Device.open();
  const values = Float64Array.from(normals(500), (value, i) => (value + i * 2 ** -30) * 3 ** ((i % 41) - 20));
  const pair = await uploadF64(device, values, [500]);
  const back = await downloadF64(pair);
  values.forEach((value, i) => {
    assert.ok(Math.abs(back[i]! - value) <= 2 ** -48 * Math.abs(value));
  });
  disposeDoubleSingle(pair);
  assert.is(device.memory.liveBytes, 0);
});

test.run();
