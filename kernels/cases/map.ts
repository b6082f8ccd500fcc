import { type DType, type Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { map } from '../map/map.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';

/** An input: shape and dtype, or the number that it is. */
type Input = readonly [shape: readonly number[], dtype?: DType] | number;

interface MapCase {
  text: string;
  shape: readonly number[];
  inputs: Readonly<Record<string, Input>>;
  out?: DType;
  /** The expression in f64, of the inputs in their order and of the place. */
  host(values: number[], row: number, column: number): number;
  tolerance?: number;
  bench?: boolean;
}

/** Largest relative rounding of a dtype, and what f32 functions may err. */
export const rounding: Readonly<Record<DType, number>> = { f32: 1e-6, f16: 5e-4, bf16: 4e-3, u32: 0 };

export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Values of any dtype on the device and as the kernel reads them; integers are small. */
export async function anyTensor(
  scope: Scope,
  shape: readonly number[],
  dtype: DType,
  seed: number,
): Promise<{ tensor: Tensor; values: ArrayLike<number> }> {
  const values = normals(sizeOf(shape), seed);
  if (dtype !== 'u32') return caseTensor(scope, values, shape, dtype);
  const integers = Uint32Array.from(values, x => Math.floor(100 * Math.abs(x)));
  return { tensor: scope.own(tensorFrom(scope.device, integers, shape)), values: integers };
}

/** Place of element i of an output of this shape in an input that spreads over it. */
export function spread(i: number, shape: readonly number[], own: readonly number[]): number {
  let [rest, stride, at] = [i, 1, 0];
  for (let d = shape.length - 1; d >= 0; d--) {
    const extent = own[own.length - shape.length + d] ?? 1;
    if (extent > 1) at += (rest % shape[d]!) * stride;
    rest = Math.floor(rest / shape[d]!);
    stride *= extent;
  }
  return at;
}

function mapCase({ text, shape, inputs, out = 'f32', host, tolerance, bench = false }: MapCase): KernelCase {
  const shapes = Object.entries(inputs).map(([name, input]) =>
    typeof input === 'number' ? `${name} ${input}` : `${name} ${input[0].join('x')} ${input[1] ?? 'f32'}`,
  );
  const size = sizeOf(shape);
  return {
    kernel: 'map',
    name: `${text}: ${shapes.join(', ')} to ${shape.join('x')} ${out}`,
    flops: size * Math.max(1, text.split(/[-+*/(]/).length - 1),
    bytes: Object.values(inputs).reduce<number>(
      (sum, input) => sum + (typeof input === 'number' ? 0 : 4 * sizeOf(input[0])),
      4 * size,
    ),
    bench,
    tolerance: tolerance ?? rounding[out],
    async setup(scope) {
      const given: Record<string, Tensor | number> = {};
      const hosts: ((i: number) => number)[] = [];
      for (const [k, [name, input]] of Object.entries(inputs).entries()) {
        if (typeof input === 'number') {
          given[name] = input;
          hosts.push(() => input);
          continue;
        }
        const { tensor, values } = await anyTensor(scope, input[0], input[1] ?? 'f32', k + 1);
        given[name] = tensor;
        hosts.push(i => values[spread(i, shape, input[0])]!);
      }
      const output = scope.tensor(shape, out);
      const columns = shape.at(-1) ?? 1;
      return {
        output,
        run: rec => map(rec, text, given, output),
        reference: () => ({
          expected: Float64Array.from({ length: size }, (_, i) =>
            host(
              hosts.map(value => value(i)),
              Math.floor(i / columns),
              i % columns,
            ),
          ),
        }),
      };
    },
  };
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const floats = ['f32', 'f16', 'bf16'] as const;

/** One function or operator after the other, all in one expression, of values in (0, 1) or (-1, 1). */
const everyFunction = [
  'abs(x) + ceil(x) + floor(x) + round(x) + trunc(x) + sign(x) + cos(x) + sin(x)',
  'exp(x) + exp2(x) + log(1 + x * x) + log2(2 + x * x) + sqrt(abs(x)) + rsqrt(1 + x * x) + pow(abs(x), 1.5)',
  'sigmoid(x) + silu(x) + relu(x) + softplus(x) + tanh(x) + erf(x) + x ** 2 - x ** 3 + clamp(x, -0.5, 0.5)',
  'min(x, 0.25) * max(x, y) + x % 0.3 + (x > y || x < -y ? 1 : 0) + (x >= y && !(y == 0) ? 2 : 3) / pi',
];
const round = (x: number) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
const erf = (x: number) => {
  // Series of Abramowitz and Stegun 7.1.6, which converges fast for small x.
  let [term, sum] = [x, x];
  for (let n = 1; n < 60; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
};
const hosts: ((x: number, y: number) => number)[] = [
  x =>
    Math.abs(x) +
    Math.ceil(x) +
    Math.floor(x) +
    round(x) +
    Math.trunc(x) +
    Math.sign(x) +
    Math.cos(x) +
    Math.sin(x),
  x =>
    Math.exp(x) +
    2 ** x +
    Math.log(1 + x * x) +
    Math.log2(2 + x * x) +
    Math.sqrt(Math.abs(x)) +
    1 / Math.sqrt(1 + x * x) +
    Math.abs(x) ** 1.5,
  x =>
    sigmoid(x) +
    x * sigmoid(x) +
    Math.max(x, 0) +
    Math.log1p(Math.exp(x)) +
    Math.tanh(x) +
    erf(x) +
    x ** 2 -
    x ** 3 +
    Math.min(Math.max(x, -0.5), 0.5),
  (x, y) =>
    Math.min(x, 0.25) * Math.max(x, y) +
    (x % 0.3) +
    (x > y || x < -y ? 1 : 0) +
    (x >= y && !(y === 0) ? 2 : 3) / Math.PI,
];

export const mapCases: KernelCase[] = [
  // Every dtype to every dtype, odd sizes and even ones.
  ...floats.flatMap(from =>
    floats.flatMap(to =>
      (from === to ? [[1], [3, 129], [16, 20]] : [[7], [16, 20]]).map(shape =>
        mapCase({
          text: 'sigmoid(z) - y',
          shape,
          inputs: { z: [shape, from], y: [shape, to] },
          out: to,
          host: ([z, y]) => sigmoid(z!) - y!,
        }),
      ),
    ),
  ),
  // Rows, columns, scalars and numbers, at odd and even extents.
  ...[
    [7, 129],
    [5, 12],
  ].flatMap(([rows, columns]) =>
    floats.map(out =>
      mapCase({
        text: 'x * row_ + column_ / scalar - k',
        shape: [rows!, columns!],
        inputs: {
          x: [[rows!, columns!], 'bf16'],
          row_: [[columns!], 'f16'],
          column_: [[rows!, 1]],
          scalar: [[1]],
          k: 0.75,
        },
        out,
        host: ([x, row, column, scalar, k]) => x! * row! + column! / scalar! - k!,
      }),
    ),
  ),
  mapCase({
    text: 'a + b * c',
    shape: [3, 5, 4, 6],
    inputs: { a: [[5, 1, 6]], b: [[3, 1, 4, 1]], c: [[4, 6]] },
    host: ([a, b, c]) => a! + b! * c!,
  }),
  mapCase({
    text: 'column > row ? 7 : u32(f32(i) * 0.5) + index % 5 * row',
    shape: [9, 33],
    inputs: { i: [[9, 33], 'u32'] },
    out: 'u32',
    host: ([i], row, column) => (column > row ? 7 : Math.floor(i! / 2) + ((33 * row + column) % 5) * row),
  }),
  // More than 65,535 workgroups of single elements.
  mapCase({
    text: 'x * r',
    shape: [2049, 2051],
    inputs: { x: [[2049, 2051]], r: [[2051]] },
    host: ([x, r]) => x! * r!,
  }),
  ...everyFunction.map((text, n) =>
    mapCase({
      text,
      shape: [3, 43],
      inputs: { x: [[3, 43]], ...(n === 3 && { y: [[43]] as const }) },
      host: ([x, y]) => hosts[n]!(x!, y!),
      tolerance: 2e-6,
    }),
  ),
  mapCase({
    text: 'sigmoid(z) - y',
    shape: [1024, 1024],
    inputs: { z: [[1024, 1024]], y: [[1024, 1024]] },
    host: ([z, y]) => sigmoid(z!) - y!,
    bench: true,
  }),
];
