/**
 * Reproduces Python's random.Random(seed).random() for a small integer seed: 53-bit numbers in [0, 1) from MT19937, seeded
 * with init_by_array([seed]) like CPython.
 * Source: Matsumoto and Nishimura, Mersenne Twister (ACM TOMACS 8, 1998); CPython, Modules/_randommodule.c.
 */
export function pythonRandom(seed: number): () => number {
  const N = 624;
  const state = new Uint32Array(N);
  state[0] = 19650218;
  for (let i = 1; i < N; i++) {
    const before = state[i - 1]! ^ (state[i - 1]! >>> 30);
    state[i] = Math.imul(1812433253, before) + i;
  }
  let i = 1;
  const mixed = (factor: number) => Math.imul(state[i - 1]! ^ (state[i - 1]! >>> 30), factor);
  const next = () => {
    if (++i < N) return;
    state[0] = state[N - 1]!;
    i = 1;
  };
  for (let k = 0; k < N; k++) {
    state[i] = (state[i]! ^ mixed(1664525)) + seed;
    next();
  }
  for (let k = 1; k < N; k++) {
    state[i] = (state[i]! ^ mixed(1566083941)) - i;
    next();
  }
  state[0] = 0x80000000;
  let at = N;
  const word = () => {
    if (at === N) {
      for (let k = 0; k < N; k++) {
        const y = (state[k]! & 0x80000000) | (state[(k + 1) % N]! & 0x7fffffff);
        state[k] = state[(k + 397) % N]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = state[at++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
  return () => {
    const [high, low] = [word() >>> 5, word() >>> 6];
    return (high * 67108864 + low) / 9007199254740992;
  };
}
