import type { TensorPart } from '../architecture/architecture.js';

/** Where a fused projection stores queries, keys and values, group by group. */
interface FusedHeads {
  readonly q: (name: string) => TensorPart;
  readonly k: (name: string) => TensorPart;
  readonly v: (name: string) => TensorPart;
}

/** The first `rows` rows of a tensor are those of gate, as many follow for up. */
export function fusedGate(name: string, rows: number): { gate: TensorPart; up: TensorPart } {
  const part = (first: number) => ({ name, first, count: rows, stride: rows, runs: 1 });
  return { gate: part(0), up: part(rows) };
}

/** A projection with `groups` groups, each with the rows of `queries` query heads, one key head and one value head. */
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
