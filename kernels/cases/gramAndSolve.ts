import type { Scope } from '../../engine/index.js';
import { type BlockProductVariant, blockProductVariants } from '../blockProduct/blockProduct.js';
import { crossGram } from '../gram/crossGram.js';
import { gram } from '../gram/gram.js';
import { type OuterProductsChoice, outerProductsName, outerProductsVariants } from '../gram/variants.js';
import { clearDoubleSingle, createDoubleSingle, uploadF64 } from '../shared/doubleSingle.js';
import { cholesky } from '../solve/cholesky.js';
import { solveResidual } from '../solve/solveResidual.js';
import { symmetrize } from '../solve/symmetrize.js';
import { triangularSolve } from '../solve/triangularSolve.js';
import type { CaseVariant, KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';

/** Normal numbers whose columns have scales from 1e-3 to 1e3. */
function unevenColumns(rows: number, columns: number, seed: number): Float32Array {
  const values = normals(rows * columns, seed);
  return values.map((value, i) => value * 10 ** ((((i % columns) * 3) % 7) - 3));
}

/** X^T diag(w) Y in f64. */
export function outerProductsF64(
  x: ArrayLike<number>,
  y: ArrayLike<number>,
  weights: ArrayLike<number> | undefined,
  [rows, m, n]: readonly [rows: number, m: number, n: number],
): Float64Array {
  const out = new Float64Array(m * n);
  for (let k = 0; k < rows; k++) {
    const weight = weights ? weights[k]! : 1;
    for (let i = 0; i < m; i++) {
      const factor = weight * x[k * m + i]!;
      for (let j = 0; j < n; j++) out[i * n + j]! += factor * y[k * n + j]!;
    }
  }
  return out;
}

type Sizes = readonly [rows: number, m: number, n: number];

/** A variant of gram and crossGram. */
export interface OuterProductsVariant extends CaseVariant {
  readonly choice: OuterProductsChoice;
}

function outerProductCase(
  [rows, m, n]: Sizes,
  symmetric: boolean,
  weighted: boolean,
  bench = false,
): KernelCase<OuterProductsVariant> {
  const elements = symmetric ? (m * (m + 1)) / 2 : m * n;
  return {
    kernel: symmetric ? 'gram' : 'crossGram',
    name: `${rows}x${m}${symmetric ? '' : `, ${rows}x${n}`}${weighted ? ' weighted' : ''}`,
    flops: 2 * rows * elements,
    bytes: 4 * rows * (symmetric ? m : m + n),
    bench,
    // The case compares the leading half of the double-single result.
    tolerance: 1e-7,
    variants: device =>
      outerProductsVariants(device).map(choice => ({ name: outerProductsName(choice), choice })),
    setup: async (scope: Scope) => {
      const x = await caseTensor(scope, unevenColumns(rows, m, 1), [rows, m]);
      const y = symmetric ? x : await caseTensor(scope, unevenColumns(rows, n, 2), [rows, n]);
      const w = weighted ? await caseTensor(scope, normals(rows, 3).map(Math.abs), [rows]) : undefined;
      const out = createDoubleSingle(scope, [m, n]);
      return {
        run: (rec, variant) => {
          const options = { variant: variant?.choice };
          clearDoubleSingle(rec, out);
          if (symmetric) {
            gram(rec, x.tensor, w?.tensor, out, options);
            symmetrize(rec, out);
          } else {
            crossGram(rec, x.tensor, y.tensor, w?.tensor, out, options);
          }
        },
        output: out.hi,
        reference: () => ({ expected: outerProductsF64(x.values, y.values, w?.values, [rows, m, n]) }),
      };
    },
  };
}

/** Lower triangle of a well-conditioned symmetric positive definite matrix, and its factor in f64. */
function factorable(n: number): { a: Float64Array; l: Float64Array } {
  const values = normals(n * n, 4);
  const l = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) l[i * n + j] = (0.5 * values[i * n + j]!) / Math.sqrt(n);
    l[i * n + i] = 1 + 0.1 * Math.abs(values[i * n + i]!);
  }
  const a = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let k = 0; k <= j; k++) sum += l[i * n + k]! * l[j * n + k]!;
      a[i * n + j] = sum;
      a[j * n + i] = sum;
    }
  }
  return { a, l };
}

function choleskyCase(n: number, pair: boolean, bench = false): KernelCase<BlockProductVariant> {
  return {
    kernel: 'cholesky',
    name: `${n}${pair ? ' double-single' : ''}`,
    flops: n ** 3 / 3,
    bytes: 8 * n * n,
    bench,
    tolerance: pair ? 1e-7 : 2e-6,
    variants: device => blockProductVariants(device, pair ? 'pair' : 'f32'),
    setup: async scope => {
      const { a, l } = factorable(n);
      const source = await uploadF64(scope.device, a, [n, n]);
      scope.own(source.hi);
      scope.own(source.lo);
      const work = createDoubleSingle(scope, [n, n]);
      return {
        run: (rec, variant) => {
          rec.copy(source.hi, work.hi);
          rec.copy(source.lo, work.lo);
          cholesky(rec, pair ? work : work.hi, { variant }).dispose();
        },
        output: work.hi,
        reference: () => ({
          // L^T; elements below the diagonal stay unchanged.
          expected: a.map((value, at) => {
            const [row, column] = [Math.floor(at / n), at % n];
            return column < row ? value : l[column * n + row]!;
          }),
        }),
      };
    },
  };
}

function triangularCase(
  n: number,
  r: number,
  transpose: boolean,
  inverseBlock: 32 | 64 | 128 = 32,
  bench = false,
): KernelCase<BlockProductVariant> {
  return {
    kernel: 'triangularSolve',
    name: `${n}, ${r} right-hand sides${transpose ? ' transposed' : ''}, blocks of ${inverseBlock}`,
    flops: n * n * r,
    bytes: 4 * (n * n + 2 * n * r),
    bench,
    tolerance: 3e-6,
    variants: device => blockProductVariants(device, 'f32'),
    setup: async scope => {
      const { a, l } = factorable(n);
      const matrix = await caseTensor(scope, Float32Array.from(a), [n, n]);
      const x = normals(n * r, 5);
      const b = new Float32Array(n * r);
      for (let i = 0; i < n; i++) {
        for (let c = 0; c < r; c++) {
          let sum = 0;
          for (let k = transpose ? i : 0; k < (transpose ? n : i + 1); k++) {
            sum += (transpose ? l[k * n + i]! : l[i * n + k]!) * x[k * r + c]!;
          }
          b[i * r + c] = sum;
        }
      }
      const right = await caseTensor(scope, b, [n, r]);
      const factor = cholesky(scope.device.recorder, matrix.tensor, { inverseBlock });
      for (const tensor of factor.owned) scope.own(tensor);
      const work = scope.tensor([n, r]);
      return {
        run: (rec, variant) => {
          rec.copy(right.tensor, work);
          triangularSolve(rec, { ...factor, variant }, work, { transpose });
        },
        output: work,
        reference: () => ({ expected: x }),
      };
    },
  };
}

function residualCase(n: number, r: number, bench = false): KernelCase<BlockProductVariant> {
  return {
    kernel: 'solveResidual',
    name: `${n}, ${r} right-hand sides`,
    flops: 2 * n * n * r,
    bytes: 8 * (n * n + 3 * n * r),
    bench,
    tolerance: 1e-7,
    variants: device => blockProductVariants(device, 'precise'),
    setup: async scope => {
      const { a } = factorable(n);
      const x = Float64Array.from(normals(n * r, 6), (value, i) => value * (1 + 2 ** -30 * (i % 5)));
      // B is close to A X: the residual is below the resolution of f32.
      const product = outerProductsF64(a, x, undefined, [n, n, r]);
      const b = product.map((value, i) => value * (1 + 2 ** -20 * ((i % 7) - 3)));
      const own = async (values: Float64Array, shape: number[]) => {
        const tensor = await uploadF64(scope.device, values, shape);
        scope.own(tensor.hi);
        scope.own(tensor.lo);
        return tensor;
      };
      const [matrix, solution, right] = [await own(a, [n, n]), await own(x, [n, r]), await own(b, [n, r])];
      const out = createDoubleSingle(scope, [n, r]);
      return {
        run: (rec, variant) => solveResidual(rec, matrix, solution, right, out, { variant }),
        output: out.hi,
        reference: () => ({ expected: b.map((value, i) => value - product[i]!) }),
      };
    },
  };
}

export const gramAndSolveCases: readonly KernelCase[] = [
  ...[false, true].flatMap(weighted => [
    ...[1, 7, 129].map(d => outerProductCase([300, d, d], true, weighted)),
    ...(
      [
        [1, 7, 1],
        [257, 7, 33],
        [1000, 129, 68],
      ] as const
    ).map(sizes => outerProductCase(sizes, false, weighted)),
  ]),
  outerProductCase([600, 576, 576], true, true, true),
  outerProductCase([520, 576, 64], false, false),
  outerProductCase([2048, 576, 576], true, false, true),
  ...[1, 7, 33, 129, 300].flatMap(n => [choleskyCase(n, false), choleskyCase(n, true)]),
  choleskyCase(576, false, true),
  choleskyCase(576, true, true),
  ...[1, 7, 129].flatMap(n => [triangularCase(n, 5, false), triangularCase(n, 5, true)]),
  ...([64, 128] as const).flatMap(block => [
    triangularCase(300, 5, false, block),
    triangularCase(300, 5, true, block),
  ]),
  triangularCase(576, 576, false, 32, true),
  residualCase(7, 3),
  residualCase(129, 65),
  residualCase(576, 64, true),
];
