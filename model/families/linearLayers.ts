import type { TensorPart } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';

/** Rows of a fused tensor, one part behind the other: a function of each part that gives its place in a tensor. */
export function rowParts<K extends string>(
  rows: Readonly<Record<K, number>>,
): Readonly<Record<K, (name: string) => TensorPart>> {
  let next = 0;
  const parts = Object.entries(rows).map(([key, count]) => {
    const first = next;
    next += count as number;
    return [key, (name: string) => ({ name, first, count, stride: count, runs: 1 })];
  });
  return Object.fromEntries(parts) as Record<K, (name: string) => TensorPart>;
}

/** Tokens that a causal convolution sees. */
export function readKernel(config: ConfigReader, field: string, usual: number): number {
  const kernel = config.count(field, usual);
  if (kernel >= 2 && kernel <= 16) return kernel;
  const problem = `is ${kernel}; convolutions can see 2 to 16 tokens here`;
  throw config.unsupported(field, problem, 'Choose a model with such convolutions.');
}
