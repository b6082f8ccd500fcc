import type { Device } from '../../engine/index.js';
import { attentionClass } from '../attention/variants.js';
import { gatedMatmulClass, matmulClass } from '../matmul/variants.js';
import { attentionCase, causalRanges } from './attention.js';
import type { KernelCase } from './case.js';
import { gatedMatmulCase } from './gatedMatmul.js';
import { matmulCase } from './matmul.js';

/** A case that `rm-engine tune` measures: its fastest variant is used for all shapes of its class. */
export interface TuningCase {
  readonly shapeClass: string;
  readonly item: KernelCase;
}

type Extents = readonly [m: number, n: number, k: number];

/** Rows of a batch, from decoding to prefill; they meet square, widening and narrowing weights of language models. */
const rows = [1, 16, 64, 256, 1024];
const weights = [
  [1024, 1024],
  [4096, 1024],
  [1024, 4096],
  [4096, 4096],
] as const;

/** The MLP of models of 8 billion parameters, in batches of a GPU too. */
const largeRows = [1, 16, 256, 2048];
const largeWeights = [
  [14336, 4096],
  [4096, 14336],
] as const;

/** Heads over 128k tokens; half as deep as models are, since k has the same class. */
const headRows = [1, 16, 256];
const headWeight = [128256, 2048] as const;

/** Decoding, speculative decoding and prefill. */
const attentionShapes = [
  { queries: 1, keys: 256 },
  { queries: 1, keys: 1024 },
  { queries: 1, keys: 4096 },
  { queries: 64, keys: 64 },
  { queries: 256, keys: 256 },
  { queries: 1024, keys: 1024 },
  { queries: 1, keys: 16384 },
  { queries: 4096, keys: 4096 },
];
const heads = { heads: 8, kvHeads: 2, headDim: 64 };

/** On a driver on the CPU, larger shapes would take longer than all others together, to compute or to upload. */
const SOFTWARE_FLOPS = 6e8;
const SOFTWARE_BYTES = 8e7;

/** The shapes of language models, the most common first, since the time may not suffice for all. */
export function tuningCases({ info, features }: Pick<Device, 'info' | 'features'>): TuningCase[] {
  const shapes = weights.flatMap(([n, k]) => rows.map((m): Extents => [m, n, k]));
  const large = [
    ...largeWeights.flatMap(([n, k]) => largeRows.map((m): Extents => [m, n, k])),
    ...headRows.map((m): Extents => [m, ...headWeight]),
  ];
  const cases = [
    ...shapes.map(extents => product(extents, 'f32', 'bf16')),
    ...shapes.map(gatedProduct),
    ...attentionShapes.map(attentionOf),
    ...large.map(extents => product(extents, 'f32', 'bf16')),
    ...largeRows.map(m => gatedProduct([m, 14336, 4096])),
    ...shapes.map(extents => product(extents, 'f32', 'f32')),
    ...(features.subgroupMatrix ? shapes.map(extents => product(extents, 'f16', 'f16')) : []),
    ...shapes.map(extents => product(extents, 'f32', 'f16')),
  ];
  return cases.filter(
    ({ item }) => info.kind === 'gpu' || (item.flops <= SOFTWARE_FLOPS && item.bytes <= SOFTWARE_BYTES),
  );
}

function product([m, n, k]: Extents, a: 'f32' | 'f16', b: 'f32' | 'f16' | 'bf16'): TuningCase {
  const shape = { m, n, k, transposeA: false, transposeB: true };
  return { shapeClass: matmulClass(shape, { a, b }), item: matmulCase({ form: 'NT', m, n, k, a, b }) };
}

function gatedProduct([m, n, k]: Extents): TuningCase {
  return { shapeClass: gatedMatmulClass({ m, n, k }), item: gatedMatmulCase({ m, n, k }) };
}

function attentionOf({ queries, keys }: { queries: number; keys: number }): TuningCase {
  const ranges = queries === 1 ? Uint32Array.of(0, keys) : causalRanges([queries]);
  const name = `${queries} of ${keys}`;
  return {
    shapeClass: attentionClass({ queries, keys, ...heads }),
    item: attentionCase({ name, ...heads, ranges, keys }),
  };
}
