// Programs, parameters and tensors that do not fit: each fails alone, when it is recorded. Costs 1 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  Device,
  type Dispatch,
  downloadF32,
  f32Bits,
  type ProgramSpec,
  Tensor,
  tensorFrom,
} from '../../engine/index.js';
import { rejectsWith } from '../gpu.js';

const head = '@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u)';

/** y[i] = factor * x[i], with everything named. */
const scale: ProgramSpec = {
  key: 'scale',
  params: { count: 'u32', factor: 'f32', shift: 'i32' },
  bindings: { x: 'read f32', y: 'write f32' },
  wgsl: `${head} {
  if (id.x < p.count) { y[id.x] = p.factor * x[id.x] + f32(p.shift); }
}`,
};

let device: Device;
let x: Tensor;
let y: Tensor;
test.before(async () => {
  device = await Device.open();
  x = tensorFrom(device, [1, 2, 3, 4]);
  y = Tensor.create(device, [4]);
});
test.after(() => device.close());

/** The device still computes what it should. */
async function stillWorks(): Promise<void> {
  const params = { count: 4, factor: 2.5, shift: -1 };
  device.recorder.dispatch({ program: scale, tensors: { x, y }, params, grid: [1] });
  assert.equal([...(await downloadF32(y))], [1.5, 4, 6.5, 9]);
}

const dispatch = (change: object) => () =>
  device.recorder.dispatch({
    program: scale,
    tensors: { x, y },
    params: { count: 4, factor: 2.5, shift: -1 },
    grid: [1],
    ...change,
  } as Dispatch);

const broken: Readonly<Record<string, readonly [program: ProgramSpec, message: RegExp]>> = {
  'a word that WGSL does not know': [
    { ...scale, wgsl: `${head} {\n  y[0] = p.nothing;\n}` },
    /line 2, column \d+: .*nothing[\s\S]*> y\[0\] = p\.nothing/,
  ],
  'a workgroup that is too large': [
    { ...scale, wgsl: '@compute @workgroup_size(512) fn main() {}' },
    /workgroup_size\(512/,
  ],
  'another entry point': [{ ...scale, wgsl: '@compute @workgroup_size(1) fn other() {}' }, /main/],
  'a binding that is not declared': [
    {
      key: 'undeclared',
      bindings: ['write'],
      wgsl: `@group(0) @binding(2) var<storage, read_write> z: array<f32>; ${head} { z[0] = 1; }`,
    },
    /binding/i,
  ],
  'a uniform block that is too large': [
    {
      key: 'large block',
      bindings: ['write'],
      wgsl: `struct P { a: array<vec4u, 17> } @group(0) @binding(0) var<uniform> p: P;
@group(0) @binding(1) var<storage, read_write> z: array<u32>; ${head} { z[0] = p.a[0].x; }`,
    },
    /size|binding/i,
  ],
};
for (const [what, [program, message]] of Object.entries(broken)) {
  test(`${what} fails alone, in dispatch and in compile`, async () => {
    const said = await rejectsWith(
      dispatch({ program, tensors: program.params ? { x, y } : [y], params: [] }),
      'SHADER_COMPILE',
    );
    assert.match(said, message);
    assert.match(await rejectsWith(() => device.compile(program), 'SHADER_COMPILE'), message);
    await stillWorks();
  });
}

test('the error of a dispatch names the place of the dispatch', () => {
  function placeOfTheUser() {
    dispatch({ program: broken['another entry point']![0] })();
  }
  try {
    placeOfTheUser();
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).stack!, 'placeOfTheUser');
  }
});

test('one key with two texts: each computes its own', async () => {
  const times = (factor: number): ProgramSpec => ({
    key: 'times',
    bindings: { x: 'read f32', y: 'write f32' },
    wgsl: () => `${head} { if (id.x < 4) { y[id.x] = ${factor}.0 * x[id.x]; } }`,
  });
  const before = device.programs.size;
  for (const factor of [2, 10, 2, 10]) {
    device.recorder.dispatch({ program: times(factor), tensors: { x, y }, grid: [1] });
    assert.equal(
      [...(await downloadF32(y))],
      [1, 2, 3, 4].map(value => factor * value),
    );
  }
  assert.is(device.programs.size, before + 2);
  // The same object with another text, too.
  const changing = { ...times(3) } as { -readonly [K in keyof ProgramSpec]: ProgramSpec[K] };
  device.recorder.dispatch({ program: changing, tensors: { x, y }, grid: [1] });
  changing.wgsl = times(5).wgsl;
  device.recorder.dispatch({ program: changing, tensors: { x, y }, grid: [1] });
  assert.equal([...(await downloadF32(y))], [5, 10, 15, 20]);
});

const words: ProgramSpec = {
  key: 'words',
  bindings: ['write'],
  wgsl: `struct P { a: vec2u, b: f32, /* c: u32, */ d: vec3f }
@group(0) @binding(0) var<uniform> p: P;
@group(0) @binding(1) var<storage, read_write> z: array<f32>;
${head} { if (id.x == 0) { z[0] = f32(p.a.y); z[1] = p.b; z[2] = p.d.z; z[3] = 4.0; } }`,
};

test('words of a uniform block: counted as WGSL lays them out', async () => {
  const params = [1, 2, f32Bits(0.5), 0, 0, 0, f32Bits(7)];
  device.recorder.dispatch({ program: words, tensors: [y], params, grid: [1] });
  assert.equal([...(await downloadF32(y))], [2, 0.5, 7, 4]);
  const few = dispatch({ program: words, tensors: [y], params: params.slice(1) });
  assert.match(await rejectsWith(few, 'INVALID_ARGUMENT'), 'got 6 parameters, its uniform block has 7 words');
});

test('parameters that are missing, unknown or of another type are refused', async () => {
  const given = { count: 4, factor: 2.5, shift: -1 };
  const wrong: readonly (readonly [object, RegExp])[] = [
    [{ params: { count: 4, factor: 2.5 } }, /'shift' is missing/],
    [{ params: undefined }, /'count' is missing/],
    [{ params: { ...given, facter: 1 } }, /no parameter 'facter'/],
    [{ params: { ...given, count: 2.5 } }, /'count' is 2\.5, a whole number \(u32\)/],
    [{ params: { ...given, count: -1 } }, /'count' is -1/],
    [{ params: { ...given, shift: 2 ** 31 } }, /'shift' is 2147483648/],
    [{ params: { ...given, factor: '2' } }, /'factor' is string/],
    [{ program: words, tensors: [y], params: [1, 2, 2.5, 0, 0, 0, 0] }, /parameter 3 is 2\.5, a u32 word/],
    [{ grid: [1.5] }, /1\.5 x 1 x 1/],
    [{ grid: undefined }, /undefined x 1 x 1/],
  ];
  for (const [change, message] of wrong) {
    assert.match(await rejectsWith(dispatch(change), 'INVALID_ARGUMENT'), message);
    await stillWorks();
  }
});

test('tensors that are missing, of another dtype or another device are refused', async () => {
  await using other = await Device.open();
  // Ids of buffers must not meet: a cache of bind groups would take this device's buffer.
  using foreign = tensorFrom(other, [1, 2, 3, 4], [4], 'theirs');
  using halves = tensorFrom(device, [1, 2, 3, 4], [4], { dtype: 'f16', label: 'halves' });
  using large = Tensor.create(device, [8], 'f16');
  const wrong: readonly (readonly [() => void, RegExp])[] = [
    [dispatch({ tensors: { x: foreign, y } }), /'theirs' \[4\], is on another device/],
    [dispatch({ tensors: { x: halves, y } }), /'halves' \[4\] f16, f32 is needed/],
    [dispatch({ tensors: { x } }), /y is no tensor/],
    [dispatch({ tensors: { x, y, z: y } }), /no tensor 'z'/],
    [dispatch({ tensors: [x, y] }), /no tensor '0'/],
    [dispatch({ program: words, tensors: [y, y] }), /binds 1 tensors, got 2/],
    [() => device.recorder.copy(foreign, y), /another device/],
    [() => device.recorder.copy(x, x), /within its buffer/],
    [() => device.recorder.clear(foreign), /another device/],
    [() => device.recorder.clear(large.rows(1, 2)), /within a 32-bit word/],
    [() => device.recorder.clear(undefined as never), /no tensor/],
  ];
  for (const [work, message] of wrong) {
    assert.match(await rejectsWith(work, 'INVALID_ARGUMENT'), message);
    await stillWorks();
  }
});

test('host values arrive as what they are, or not at all', async () => {
  const read = async (values: Parameters<typeof tensorFrom>[1], dtype?: Tensor['dtype']) => {
    using tensor = tensorFrom(device, values, undefined, dtype && { dtype });
    return tensor.dtype === 'u32' ? 'u32' : [tensor.dtype, ...(await downloadF32(tensor))];
  };
  assert.equal(await read(Float64Array.of(0.1, 2)), ['f32', Math.fround(0.1), 2]);
  assert.equal(await read([1, 2, 3]), ['f32', 1, 2, 3]);
  assert.equal(await read(Int32Array.of(-1, 2), 'f32'), ['f32', -1, 2]);
  assert.equal(await read(Float32Array.of(1 + 2 ** -9), 'bf16'), ['bf16', 1]);
  assert.equal(await read([1, 2], 'u32'), 'u32');
  assert.match(await rejectsWith(() => read(Int32Array.of(1)), 'INVALID_ARGUMENT'), 'signed integers');
  assert.match(await rejectsWith(() => read([1, -2], 'u32'), 'INVALID_ARGUMENT'), '-2 at 1');
  assert.match(await rejectsWith(() => read([1], 'i8' as never), 'INVALID_ARGUMENT'), 'i8');
  await rejectsWith(() => read(new Float64Array(20_000_000)), 'INVALID_ARGUMENT');
  await rejectsWith(() => Tensor.create(device, [2], 'i8' as never), 'INVALID_ARGUMENT');
  await rejectsWith(() => Device.open({ profil: true } as never), 'INVALID_ARGUMENT');
  await stillWorks();
});

test('no tensor is created on a closed device', async () => {
  const closed = await Device.open();
  await closed.close();
  await rejectsWith(() => Tensor.create(closed, [4]), 'DEVICE_LOST');
  await rejectsWith(() => closed.compile(scale), 'DEVICE_LOST');
});

test.run();
