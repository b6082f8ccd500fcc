import type { DType, Recorder, Tensor } from '../../engine/index.js';
import { type RandomOptions, random } from '../elementwise/random.js';
import { fill } from '../map/named.js';
import type { KernelCase } from './case.js';

interface Generated {
  kernel: string;
  shape: readonly number[];
  dtype?: DType;
  tolerance?: number;
  bench?: boolean;
  run(rec: Recorder, out: Tensor): void;
  host(i: number): number;
}

const generatedCase = ({ kernel, shape, dtype = 'f32', tolerance = 0, bench, run, host }: Generated) => {
  const size = shape.reduce((a, b) => a * b, 1);
  return {
    ...{ kernel, name: `${shape.join('x')} ${dtype}`, flops: 0, bytes: 4 * size },
    ...{ bench: bench ?? false, tolerance },
    async setup(scope) {
      const output = scope.tensor(shape, dtype);
      return {
        output,
        run: rec => run(rec, output),
        reference: () => ({ expected: Float64Array.from({ length: size }, (_, i) => host(i)) }),
      };
    },
  } satisfies KernelCase;
};

/** The two words that `random` takes of pcg4d(i, seed, 0, 1), in integers of the host. */
function hashed(i: number, seed: number): [number, number] {
  const step = (word: number) => (Math.imul(word, 1664525) + 1013904223) | 0;
  const v = [step(i), step(seed), step(0), step(1)] as [number, number, number, number];
  const mix = () => {
    v[0] = (v[0] + Math.imul(v[1], v[3])) | 0;
    v[1] = (v[1] + Math.imul(v[2], v[0])) | 0;
    v[2] = (v[2] + Math.imul(v[0], v[1])) | 0;
    v[3] = (v[3] + Math.imul(v[1], v[2])) | 0;
  };
  mix();
  for (let k = 0; k < 4; k++) v[k] = v[k]! ^ (v[k]! >>> 16);
  mix();
  return [v[0] >>> 0, v[1] >>> 0];
}

const drawn = (
  { seed, distribution }: RandomOptions,
  shape: readonly number[],
  host: (a: number, b: number) => number,
  rest: Pick<Generated, 'dtype' | 'tolerance' | 'bench'> = {},
): KernelCase =>
  generatedCase({
    ...{ kernel: `random ${distribution}`, shape, ...rest },
    run: (rec, out) => random(rec, out, { seed, distribution }),
    host: i => host(...hashed(i, seed)),
  });

const normal = (a: number, b: number) =>
  Math.sqrt(-2 * Math.log(((a >>> 8) + 1) / 2 ** 24)) * Math.cos((2 * Math.PI * (b >>> 8)) / 2 ** 24);

/** Kernels that read nothing. */
export const generatedCases: KernelCase[] = [
  ...(['f32', 'f16', 'bf16', 'u32'] as const).map(dtype =>
    generatedCase({
      kernel: 'fill',
      shape: [7, 129],
      dtype,
      run: (rec, out) => fill(rec, out, 3),
      host: () => 3,
    }),
  ),
  drawn({ seed: 1, distribution: 'uniform' }, [1], a => (a >>> 8) / 2 ** 24),
  drawn({ seed: 2 ** 32 - 1, distribution: 'uniform' }, [7, 129], a => (a >>> 8) / 2 ** 24),
  drawn({ seed: 7, distribution: 'uniform' }, [1000], a => a, { dtype: 'u32' }),
  // WGSL lets a cosine err by 2^-11.
  drawn({ seed: 7, distribution: 'normal' }, [129, 576], normal, { tolerance: 5e-4, bench: true }),
];
