import { asBytes, type Device, Scope, tensorFromBytes } from '../../engine/index.js';
import { type PolarFactor, polar } from '../../kernels/index.js';

/** Most singular values that are reduced before the matrix is rounded to f32. */
const MOST_LARGE = 8;
/** Power iterations per singular value; one that is twice the next needs 22. */
const ITERATIONS = 30;
/** A singular vector that changes no more than this has converged. */
const CONVERGED = 1e-13;

/**
 * Orthogonal polar factor U V' of A = U S V' [n,n] in f64. Tokens with massive activations can make the largest singular
 * values far exceed the others (1e4 times on SmolLM2), which f32 would then lose. Power iterations in f64 find the
 * outliers one by one and reduce each to the size of the next value. That changes no singular vector, so the factor
 * stays the same.
 *
 * @throws RmError NOT_CONVERGED when A is singular, NOT_FINITE.
 */
export async function orthogonalFactor(
  device: Device,
  a: Float64Array,
  n: number,
  label: string,
): Promise<PolarFactor> {
  const rest = a.slice();
  const taken: { u: Float64Array; v: Float64Array }[] = [];
  let next = 0;
  for (;;) {
    const { u, v, value, converged } = largestSingular(rest, n);
    next = value;
    if (!converged || taken.length === Math.min(MOST_LARGE, n - 1)) break;
    addOuter(rest, u, v, -value);
    taken.push({ u, v });
  }
  for (const { u, v } of taken) addOuter(rest, u, v, next);
  using scope = new Scope(device);
  const rounded = await tensorFromBytes(device, asBytes(Float32Array.from(rest)), [n, n], 'f32', label);
  return await polar(device, scope.own(rounded));
}

/** The largest singular value by power iterations on A' A, with A v = value u. */
function largestSingular(
  a: Float64Array,
  n: number,
): { u: Float64Array; v: Float64Array; value: number; converged: boolean } {
  const u = new Float64Array(n);
  // The direction of the longest row is not orthogonal to the vector sought.
  let v = new Float64Array(n);
  let longest = 0;
  for (let i = 0; i < n; i++) {
    const row = a.subarray(i * n, (i + 1) * n);
    const length = norm(row);
    if (length > longest) {
      longest = length;
      v = row.map(x => x / length);
    }
  }
  let value = 0;
  let change = 1;
  for (let iteration = 0; iteration < ITERATIONS && change > CONVERGED; iteration++) {
    const image = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      let dot = 0;
      for (let j = 0; j < n; j++) dot += a[i * n + j]! * v[j]!;
      u[i] = dot;
    }
    value = norm(u);
    if (value === 0) break;
    for (let i = 0; i < n; i++) {
      const factor = u[i]! / value;
      u[i] = factor;
      for (let j = 0; j < n; j++) image[j]! += factor * a[i * n + j]!;
    }
    const length = norm(image);
    const turned = image.map(x => x / length);
    change = norm(turned.map((x, j) => x - v[j]!));
    if (change > CONVERGED) v = turned;
  }
  return { u, v, value, converged: change <= CONVERGED };
}

const norm = (x: Float64Array): number => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));

/** A += factor u v' */
function addOuter(a: Float64Array, u: Float64Array, v: Float64Array, factor: number): void {
  const n = u.length;
  for (let i = 0; i < n; i++) {
    const row = factor * u[i]!;
    for (let j = 0; j < n; j++) a[i * n + j]! += row * v[j]!;
  }
}
