import type { TensorPart } from '../architecture/architecture.js';

/** Where queries, keys and values are in a projection that holds them group by group. */
export interface FusedHeads {
  readonly q: (name: string) => TensorPart;
  readonly k: (name: string) => TensorPart;
  readonly v: (name: string) => TensorPart;
}

/** `groups` times the rows of `queries` query heads, of one key head and of one value head. */
export function fusedHeads(groups: number, queries: number, headDim: number): FusedHeads {
  const stride = (queries + 2) * headDim;
  const part = (first: number, heads: number) => (name: string) => ({
    name,
    first: first * headDim,
    count: heads * headDim,
    stride,
    runs: groups,
  });
  return { q: part(0, queries), k: part(queries, 1), v: part(queries + 1, 1) };
}
