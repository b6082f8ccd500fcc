/**
 * `map`: cases against f64, wrong expressions and their places, in-place and large tensors, NaN. Costs 6 s.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, downloadU32, type RmError, Scope, tensorFrom } from '../../engine/index.js';
import { mapCases } from '../../kernels/cases/map.js';
import { map } from '../../kernels/map/map.js';
import { convert } from '../../kernels/map/named.js';
import { normals } from '../gpu.js';
import { testCases } from './runCases.js';

const device = testCases(mapCases);

const messageOf = (work: () => void): string => {
  try {
    work();
  } catch (error) {
    assert.is((error as RmError).code, 'INVALID_ARGUMENT', `${error}`);
    return (error as Error).message;
  }
  return 'no error';
};

test('sin and cos, whatever those of the driver are worth', async () => {
  using scope = new Scope(device());
  const x = Float32Array.from({ length: 4001 }, (_, i) => (i < 2001 ? i - 1000 : 3 * (i - 3001) + 0.3));
  for (const name of ['sin', 'cos'] as const) {
    const out = scope.tensor([x.length]);
    map(device().recorder, `${name}(x)`, { x: scope.own(tensorFrom(device(), x)) }, out);
    const found = await downloadF32(out);
    const worst = Math.max(...x.map((value, i) => Math.abs(found[i]! - Math[name](value))));
    assert.ok(worst < 2e-7, `${name}: ${worst}`);
  }
});

test('what is wrong with an expression is said with its place, when it is recorded', async () => {
  using scope = new Scope(device());
  const rec = device().recorder;
  const z = scope.own(tensorFrom(device(), Float32Array.of(1, 2, 3, 4), [2, 2]));
  const i = scope.own(tensorFrom(device(), Uint32Array.of(1, 2, 3, 4), [2, 2]));
  const out = scope.tensor([2, 2]);
  const wrong: [text: unknown, at: number, message: RegExp][] = [
    ['sigmoid(z - 1', 14, /'\)' is missing/],
    ['z +', 4, /missing at the end/],
    ['z $ 2', 3, /'\$'/],
    ['z 2', 3, /'2' does not continue/],
    ['1 + sigmod(z)', 5, /no function 'sigmod'/],
    ['z * y', 5, /no 'y'/],
    ['max(z)', 1, /got 1 arguments and takes 2/],
    ['z + (z > 1)', 3, /do not go together/],
    ['z ? 1 : 2', 1, /true or false is needed/],
    ['1 < z < 3', 7, /comparison/],
    ['z > 1', 3, /true or false, a float is needed/],
    ['z + index', 3, /float and an integer/],
    ['-(z > 1) + z', 10, /do not go together/],
    [`${'('.repeat(100)}z`, 65, /within each other/],
    ['exp + z', 1, /without arguments/],
    ['1 + 2', 1, /does not read 'z'/],
    ['z; return', 2, /';'/],
    ['\n\nz +\n', 6, /missing at the end/],
  ];
  for (const [text, at, message] of wrong) {
    const said = messageOf(() => map(rec, text as string, { z }, out));
    assert.match(said, message);
    assert.match(said, new RegExp(`at character ${at} of`), `${text}`);
  }
  for (const [work, message] of [
    [() => map(rec, '', { z }, out), /empty/],
    [() => map(rec, 5 as never, { z }, out), /number/],
    [() => map(rec, `z${'+z'.repeat(1000)}`, { z }, out), /characters/],
    [() => map(rec, 'i * 2', { i }, out), /an integer, a float is needed/],
    [() => map(rec, 'i - 0.5', { i }, i), /0.5 is no integer/],
    [() => map(rec, 'i * k', { i, k: -1 }, i), /'k' is -1/],
    [() => map(rec, '-i', { i }, i), /negative/],
    [() => map(rec, 'z', z as never, out), /no object of tensors/],
    [() => map(rec, 'z', { z: 'x' as never }, out), /'z' is string/],
    [() => map(rec, 'z', { z: null as never }, out), /'z' is null/],
    [() => map(rec, 'z', { z: scope.tensor([3]) }, out), /does not spread over/],
    [() => map(rec, 'z', { z: scope.tensor([1, 2, 2]) }, scope.tensor([4])), /does not spread over/],
    [() => map(rec, 'a+b', { a: z, 'b c': z }, out), /'b c'/],
    [() => map(rec, 'y', { y: z.rows(1, 1) }, z), /aligned|begins at|binds its buffer/],
    [() => map(undefined as never, 'z', { z }, out), /recorder/],
  ] as [() => void, RegExp][])
    assert.match(messageOf(work), message);
  const many = Object.fromEntries([...'abcdefgh'].map(name => [name, scope.tensor([2, 2])]));
  assert.match(
    messageOf(() => map(rec, 'a+b+c+d+e+f+g+h', many, out)),
    /8 tensors/,
  );
  map(rec, 'z + 1', { z }, out);
  assert.equal([...(await downloadF32(out))], [2, 3, 4, 5], 'the device stays usable');
});

test('an input may be the output, of any dtype and with rows that spread', async () => {
  using scope = new Scope(device());
  for (const [dtype, columns] of [
    ['f32', 8],
    ['f16', 7],
    ['bf16', 3],
  ] as const) {
    const x = scope.tensor([5, columns], dtype);
    const row = scope.own(
      tensorFrom(
        device(),
        Float32Array.from({ length: columns }, (_, j) => j),
      ),
    );
    map(device().recorder, 'f32(row) + 1', {}, x);
    map(device().recorder, 'x * r', { x, r: row }, x);
    const wide = scope.tensor([5, columns]);
    convert(device().recorder, x, wide);
    const expected = Array.from(
      { length: 5 * columns },
      (_, i) => (Math.floor(i / columns) + 1) * (i % columns),
    );
    assert.equal([...(await downloadF32(wide))], expected);
  }
});

test('an odd last element leaves the next row of a view as it is', async () => {
  using scope = new Scope(device());
  const both = scope.tensor([2, 129], 'bf16');
  const wide = scope.tensor([2, 129]);
  map(device().recorder, '2', {}, both);
  map(device().recorder, '3', {}, both.rows(0, 1));
  convert(device().recorder, both, wide);
  assert.equal([...(await downloadF32(wide))], [...Array(129).fill(3), ...Array(129).fill(2)]);
});

test('NaN and infinity are what JavaScript says', async () => {
  using scope = new Scope(device());
  const values = [Number.NaN, Number.POSITIVE_INFINITY, -2, 3, -0.5];
  const x = scope.own(tensorFrom(device(), Float32Array.from(values)));
  const out = scope.tensor([5]);
  const computed = async (text: string) => {
    map(device().recorder, text, { x }, out);
    return [...(await downloadF32(out))];
  };
  assert.equal(
    await computed('isNaN(x) ? 1 : isFinite(x) ? 2 : 3'),
    values.map(v => (Number.isNaN(v) ? 1 : Number.isFinite(v) ? 2 : 3)),
  );
  assert.equal((await computed('pow(x, 3)')).slice(2), [-8, 27, -0.125].map(Math.fround));
  assert.equal((await computed('pow(x, 0.5)')).slice(2).map(Number.isNaN), [true, false, true]);
  assert.equal(await computed('0 * x + infinity > 1 ? 1 : 0'), [0, 0, 1, 1, 1]);
});

test('tensors larger than a binding are computed in pieces', async () => {
  await using small = await Device.open({ bindingLimit: 1 << 16 });
  using scope = new Scope(small);
  const [rows, columns] = [1023, 77];
  const data = normals(rows * columns);
  const x = scope.own(tensorFrom(small, data, [rows, columns]));
  const column = scope.own(tensorFrom(small, normals(rows, 2), [rows, 1]));
  const out = scope.tensor([rows, columns]);
  map(small.recorder, 'x * c + f32(row)', { x, c: column }, out);
  map(small.recorder, 'y + 1', { y: out }, out);
  const c = await downloadF32(column);
  const actual = await downloadF32(out);
  for (const i of [0, 5000, 16384, 40000, rows * columns - 1]) {
    const row = Math.floor(i / columns);
    assert.ok(Math.abs(actual[i]! - (data[i]! * c[row]! + row + 1)) < 1e-3, `element ${i}`);
  }
  const integers = scope.tensor([40_001], 'u32');
  map(small.recorder, 'index', {}, integers);
  const counted = await downloadU32(integers);
  assert.ok(counted.every((value, i) => value === i));
});

test.run();
