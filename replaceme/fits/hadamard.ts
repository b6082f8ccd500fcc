function isPrime(n: number): boolean {
  if (n < 2) return false;
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
  return true;
}

/** The prime q of one of Paley's constructions: n = q + 1 with q = 3 mod 4, or n = 2 (q + 1) with q = 1 mod 4. */
function paleyPrime(n: number): number | undefined {
  if (n % 4 !== 0) return undefined;
  return [n - 1, n / 2 - 1].find((q, i) => q % 4 === (i === 0 ? 3 : 1) && isPrime(q));
}

/** Jacobsthal's matrix chi(i - j) modulo q, 0 on the diagonal, bordered by ones; the border's column has `sign`. */
function conference(q: number, sign: 1 | -1): (i: number, j: number) => number {
  const character = new Int8Array(q).fill(-1);
  for (let x = 1; x < q; x++) character[(x * x) % q] = 1;
  character[0] = 0;
  return (i, j) => {
    if (i === j) return 0;
    if (i === 0) return 1;
    return j === 0 ? sign : character[(i - j + q) % q]!;
  };
}

/** Entries, +1 or -1, of Paley's matrix of order n. */
function paley(n: number, q: number): (i: number, j: number) => number {
  if (q === n - 1) {
    const entry = conference(q, -1);
    return (i, j) => (i === j ? 1 : entry(i, j));
  }
  // Every 0 becomes (1 -1; -1 -1), every other entry itself times (1 1; 1 -1).
  const entry = conference(q, 1);
  return (i, j) => {
    const c = entry(i >> 1, j >> 1);
    if (c === 0) return i % 2 === 0 && j % 2 === 0 ? 1 : -1;
    return i % 2 === 1 && j % 2 === 1 ? -c : c;
  };
}

/** Entries of Sylvester's matrix; its order is any power of two. */
function sylvester(i: number, j: number): number {
  let sign = 1;
  for (let both = i & j; both !== 0; both &= both - 1) sign = -sign;
  return sign;
}

/** The smallest n / 2^k that is 1 or the order of a Paley matrix; undefined where there is none. */
function baseOrder(n: number): number | undefined {
  if (n <= 1) return n === 1 ? 1 : undefined;
  const smaller = n % 2 === 0 ? baseOrder(n / 2) : undefined;
  return smaller ?? (paleyPrime(n) && n);
}

/** Whether `hadamard` can build this order. */
export const hasHadamard = (n: number): boolean => baseOrder(n) !== undefined;

/**
 * An orthogonal matrix [n, n] with entries ±1/sqrt(n), row-major: Paley's construction (over prime fields) times
 * Sylvester's. Undefined for other orders.
 */
export function hadamard(n: number): Float32Array | undefined {
  const order = baseOrder(n);
  if (order === undefined) return undefined;
  const base = order === 1 ? () => 1 : paley(order, paleyPrime(order)!);
  const size = n / order;
  const matrix = new Float32Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      const sign = base(Math.floor(i / size), Math.floor(j / size)) * sylvester(i % size, j % size);
      matrix[i * n + j] = sign / Math.sqrt(n);
    }
  }
  return matrix;
}
