import {
  checkArguments,
  type Device,
  f32Bits,
  optional,
  type ProgramSpec,
  type Recorder,
  RmError,
  Scope,
  settings,
  Tensor,
  text,
} from '../../engine/index.js';
import { scale } from '../map/named.js';
import { matmul } from '../matmul/matmul.js';
import { frobeniusNorm } from '../reductions/rowNorms.js';
import { aDevice, aTensor, checkMatrix, checkTensor } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';

/** The smallest singular value, relative to the largest, that f32 distinguishes from zero. */
const LEAST_SINGULAR = 1e-5;
/** Lower bound on l in the choice of the scale c. */
const LEAST_FOR_SCALE = 0.1;
/** Largest accepted |X' X - I|_F / sqrt(d). */
const TOLERANCE = 1e-5;
/** Above this the convergence is quadratic, and the orthogonality is checked. */
const NEAR_ONE = 0.9;
/** Steps from there: three leave 4e-3, 6e-6 and 2e-11 of the distance to 1, and one more is for rounding. */
const LAST_STEPS = 4;

const program: ProgramSpec = flatProgram({
  key: 'multiple plus identity',
  bindings: ['read', 'write'],
  fields: 'columns: u32, factor: f32, diagonal: f32',
  declarations: `
@group(0) @binding(1) var<storage, read> m: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;`,
  body: '  out[i] = p.factor * m[i] + select(0.0, p.diagonal, i / p.columns == i % p.columns);',
});

/** out = factor M + diagonal I */
function addIdentity(rec: Recorder, m: Tensor, factor: number, diagonal: number, out: Tensor): void {
  const { size, columns } = m;
  runFlat(rec, program, [m, out], size, [columns, f32Bits(factor), f32Bits(diagonal)], {
    flops: 2 * size,
    bytes: 8 * size,
  });
}

/** Chooses the scale c of a step on singular values in [least, 1], and returns the least value after it. */
function scaledStep(least: number): { factor: number; least: number } {
  const l = Math.max(least, LEAST_FOR_SCALE);
  const factor = Math.sqrt(3 / (1 + l + l * l));
  const image = (s: number) => (factor * s * (3 - (factor * s) ** 2)) / 2;
  return { factor, least: Math.min(image(least), image(1)) };
}

/** The orthogonal factor of a polar decomposition, and how close it is to orthogonal. */
export interface PolarFactor {
  /** U V' [d,d] f32; the caller disposes it. */
  factor: Tensor;
  iterations: number;
  /** |X' X - I|_F / sqrt(d) of the factor. */
  orthogonality: number;
}

const polarSettings = settings<{ label?: string }>({ label: optional(text) });

/**
 * Computes the orthogonal polar factor U V' of A = U S V' [d,d] f32 by scaled Newton-Schulz iteration; A stays unchanged.
 *
 * @throws RmError NOT_CONVERGED when A is singular in f32, NOT_FINITE, INVALID_ARGUMENT.
 */
export async function polar(
  device: Device,
  a: Tensor,
  options: { label?: string } = {},
): Promise<PolarFactor> {
  checkArguments('polar', { device, a, options }, { device: aDevice, a: aTensor, options: polarSettings });
  const { label = a.label } = options;
  const [d] = checkMatrix('polar', 'a', a);
  checkTensor('polar', 'a', a, [d, d]);
  const rec = device.recorder;
  const norm = await frobeniusNorm(rec, a);
  if (!Number.isFinite(norm))
    throw new RmError(
      'NOT_FINITE',
      `the norm of '${label}' [${d},${d}] is ${norm}`,
      'Look for NaN or infinity in the weights of the model or in its activations.',
    );
  if (norm === 0) throw singular(label, d, 1);
  using scope = new Scope(device);
  const [gram, map] = ["X' X", 'step'].map(name => scope.tensor([d, d], 'f32', name)) as [Tensor, Tensor];
  let [x, next] = [0, 1].map(() => scope.tensor([d, d], 'f32', 'polar iterate')) as [Tensor, Tensor];
  rec.copy(a, x);
  scale(rec, x, 1 / norm);
  let least = LEAST_SINGULAR;
  let orthogonality = 1;
  for (let iterations = 0, last = 0; last <= LAST_STEPS; iterations++) {
    matmul(rec, x, x, gram, { transposeA: true });
    const bound = iterations === 0 ? Math.sqrt(await frobeniusNorm(rec, gram)) : 1;
    if (least > NEAR_ONE) {
      addIdentity(rec, gram, 1, -1, map);
      orthogonality = (await frobeniusNorm(rec, map)) / Math.sqrt(d);
      if (orthogonality < TOLERANCE) {
        const factor = Tensor.create(device, [d, d], 'f32', 'polar factor');
        rec.copy(x, factor);
        return { factor, iterations, orthogonality };
      }
      last++;
    }
    const { factor, least: lifted } = scaledStep(least);
    const c = factor / bound;
    addIdentity(rec, gram, -(c ** 3) / 2, 1.5 * c, map);
    matmul(rec, x, map, next);
    [x, next] = [next, x];
    least = lifted;
  }
  throw singular(label, d, orthogonality);
}

const singular = (label: string, d: number, orthogonality: number): RmError =>
  new RmError(
    'NOT_CONVERGED',
    `'${label}' [${d},${d}] is singular in f32: its polar factor stays ${orthogonality.toExponential(1)} from orthogonal`,
    'Use more calibration tokens than dimensions, or add a small multiple of the identity to the matrix.',
  );
