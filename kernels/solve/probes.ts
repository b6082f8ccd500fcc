import {
  type Device,
  downloadF32,
  type Recorder,
  type Scope,
  type Tensor,
  tensorFrom,
} from '../../engine/index.js';
import { blockProduct } from '../blockProduct/blockProduct.js';
import { createDoubleSingle, type DoubleSingle } from '../shared/doubleSingle.js';
import { PROBES, randomSigns } from './conditionEstimate.js';

/** Random combinations of the columns of matrices [n,r], from which `solveSpd` estimates norms and errors cheaply. */
export interface Probes {
  /** Combinations of the right-hand sides, B W [n,32]. */
  readonly b: DoubleSingle;
  /** out = X W */
  combine(x: DoubleSingle, out: DoubleSingle): void;
  /** Estimates a matrix's Frobenius norm from its combinations [n,32]. */
  norm(combinations: Tensor): Promise<number>;
}

/** W: the r unit vectors for up to 32 columns, else random signs [r, 32]. */
function combinations(r: number): { values: Float32Array; count: number; variance: number } {
  if (r > PROBES) return { values: randomSigns(r), count: PROBES, variance: PROBES };
  const values = new Float32Array(r * r);
  for (let i = 0; i < r; i++) values[i * r + i] = 1;
  return { values, count: r, variance: 1 };
}

/** Creates the probes for matrices of the shape of B [n,r]; their tensors belong to `scope`. */
export function createProbes(scope: Scope, device: Device, rec: Recorder, b: DoubleSingle): Probes {
  const [n, r] = [b.hi.rowCount, b.hi.columns];
  const { values, count, variance } = combinations(r);
  const w: DoubleSingle = {
    hi: scope.own(tensorFrom(device, values, [r, count], 'probes')),
    lo: scope.tensor([r, count]),
  };
  rec.clear(w.lo);
  const combine = (x: DoubleSingle, out: DoubleSingle) =>
    blockProduct(rec, {
      out: { matrix: out },
      a: { matrix: x },
      b: { matrix: w },
      shape: [n, count, r],
      op: 'add',
      precise: true,
    });
  const probed = createDoubleSingle(scope, [n, count], 'probed right-hand side');
  combine(b, probed);
  return {
    b: probed,
    combine,
    norm: async tensor => {
      let sum = 0;
      for (const value of await downloadF32(tensor)) sum += value * value;
      return Math.sqrt(sum / variance);
    },
  };
}
