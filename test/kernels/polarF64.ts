/** Inverse in f64 by Gauss-Jordan elimination with partial pivoting. */
function inverse(matrix: Float64Array, d: number): Float64Array {
  const rows = Array.from({ length: d }, (_, i) => [
    ...matrix.subarray(i * d, (i + 1) * d),
    ...Array.from({ length: d }, (_, j) => (i === j ? 1 : 0)),
  ]);
  for (let k = 0; k < d; k++) {
    let best = k;
    for (let i = k; i < d; i++) if (Math.abs(rows[i]![k]!) > Math.abs(rows[best]![k]!)) best = i;
    [rows[k], rows[best]] = [rows[best]!, rows[k]!];
    const pivot = rows[k]![k]!;
    rows[k] = rows[k]!.map(value => value / pivot);
    for (let i = 0; i < d; i++) {
      const factor = rows[i]![k]!;
      if (i !== k) rows[i] = rows[i]!.map((value, j) => value - factor * rows[k]![j]!);
    }
  }
  return Float64Array.from(rows.flatMap(row => row.slice(d)));
}

/**
 * The polar factor in f64 by Newton's iteration X <- (X + X^-T) / 2.
 *
 * @param steps the default serves a condition of 1e5; one more for twice as much.
 */
export function polarF64(a: ArrayLike<number>, d: number, steps = 24): Float64Array {
  let x = Float64Array.from(a);
  const norm = Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));
  x = x.map(value => value / norm);
  // The least singular value becomes the largest, which is halved until it is near 1.
  for (let step = 0; step < steps; step++) {
    const y = inverse(x, d);
    x = x.map((value, at) => (value + y[(at % d) * d + Math.floor(at / d)]!) / 2);
  }
  return x;
}
