import { normals } from '../gpu.js';

/**
 * A symmetric positive definite matrix with these eigenvalues: a diagonal matrix turned by random Householder reflections,
 * in f64, with columns and rows then scaled by `scales`.
 */
export function withSpectrum(eigenvalues: Float64Array, scales?: (i: number) => number): Float64Array {
  const n = eigenvalues.length;
  const a = new Float64Array(n * n);
  for (let i = 0; i < n; i++) a[i * n + i] = eigenvalues[i]!;
  for (let turn = 0; turn < 24; turn++) {
    const v = normals(n, 20 + turn);
    const length = v.reduce((sum, value) => sum + value * value, 0);
    // A - v w^T - w v^T with w = 2 / |v|^2 (A v - v (v^T A v) / |v|^2)
    const av = new Float64Array(n);
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) av[i]! += a[i * n + j]! * v[j]!;
    const vav = av.reduce((sum, value, i) => sum + value * v[i]!, 0);
    const w = av.map((value, i) => (2 / length) * (value - (v[i]! * vav) / length));
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) a[i * n + j]! -= v[i]! * w[j]! + w[i]! * v[j]!;
    }
  }
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      const value = a[i * n + j]! * (scales ? scales(i) * scales(j) : 1);
      // 48 bits, so that the host and the device have the same matrix.
      const high = Math.fround(value);
      const rounded = high + Math.fround(value - high);
      a[i * n + j] = rounded;
      a[j * n + i] = rounded;
    }
  }
  return a;
}

/** From 1 down to 1 / condition. */
export const geometric = (n: number, condition: number) =>
  Float64Array.from({ length: n }, (_, i) => condition ** (-i / Math.max(1, n - 1)));
