import { asBytes, type Scope, type Tensor, tensorFromBytes } from '../../engine/index.js';

/** The identity matrix [n,n] f32 in `scope`. */
export async function identity(scope: Scope, n: number, label: string): Promise<Tensor> {
  const values = new Float32Array(n * n);
  for (let at = 0; at < n * n; at += n + 1) values[at] = 1;
  return scope.own(await tensorFromBytes(scope.device, asBytes(values), [n, n], 'f32', label));
}
