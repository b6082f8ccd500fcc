/**
 * Grouped-query attention with online softmax: for every query row t and head h,
 * out[t, h] = softmax(scale * q[t, h] . k[s, h / group]) v[s, h / group] over the keys s of ranges[t], in f32. With
 * `softcap`, scores are soft-capped before the softmax.
 *
 * Shapes: q, out [Tq, heads * headDim]; k, v [Tk, kvHeads * headDim]; ranges [Tq, 2] u32, the first key row of each
 * query and one past its last. Ranges express causal masks, packed sequences, sliding windows, decoding from a
 * cache, and bidirectional attention; an empty range gives zeros. Nothing of size Tq x Tk is stored.
 * Preconditions: headDim a multiple of 4, at most 256; ranges within 0 .. Tk.
 * Features and limits: WebGPU defaults (16 KiB of workgroup memory).
 * Sources: Milakov and Gimelshein, Online normalizer calculation for softmax (arXiv:1805.02867); Dao et al.,
 * FlashAttention (arXiv:2205.14135). For few queries and many keys, workgroups share the keys as in Dao et al.,
 * Flash-Decoding for long-context inference (PyTorch blog, 2023).
 */
import {
  checkArguments,
  ensure,
  f32Bits,
  flag,
  numeric,
  objectWith,
  optional,
  type ProgramSpec,
  type Recorder,
  Scope,
  settings,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { lineExponents } from '../matmul/lineExponents.js';
import { checkMatrix, checkOperands, checkTensor, maybeNumber, maybeTensor } from '../shared/checks.js';
import { tilesPerDispatch } from '../shared/dispatchTime.js';
import { runFlat } from '../shared/flat.js';
import { checkFirstUse } from '../shared/trustedVariants.js';
import { broadcast, broadcastRows } from './broadcast.js';
import { combine } from './combine.js';
import type { AttentionForm } from './commonWgsl.js';
import { attentionCost, tileOf } from './cost.js';
import { matrices } from './matrices.js';
import { splitKeys } from './splitKeys.js';
import { subgroupKeys } from './subgroupKeys.js';
import { SIDE, tiled } from './tiled.js';
import {
  type AttentionShape,
  type AttentionVariant,
  attentionVariants,
  defaultVariant,
  headsTogether,
  MOST_CHUNKS,
} from './variants.js';

/** Settings of `attention` and `attentionBackward`. */
export interface AttentionOptions {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Factor of the scores, usually 1 / sqrt(headDim). */
  scale: number;
  /** Replaces scores by softcap * tanh(score / softcap); default: no cap. */
  softcap?: number;
  /** Scores of keys that every query of a head sees and that have no value, f32 [heads]; `attentionBackward` has none. */
  sinks?: Tensor;
  /** Keys that a query sees at most, if k has more rows; affects only how the work is divided. */
  mostKeys?: number;
  /** Each query has keys of its own, so that tiles of queries would share none. */
  ownKeys?: boolean;
  /** @internal Replaces the default choice; for tests and measurements. */
  variant?: AttentionVariant;
}

/** The form of `AttentionOptions`. */
export const attentionSettings = settings<AttentionOptions>({
  heads: whole(1),
  kvHeads: whole(1),
  headDim: whole(1),
  scale: numeric,
  softcap: maybeNumber,
  sinks: maybeTensor,
  mostKeys: optional(whole()),
  ownKeys: optional(flag),
  variant: optional(objectWith('one of attentionVariants', 'name', 'program')),
});

/** What the check of an attention program needs to run it. */
export interface AttentionProgram {
  readonly variant: AttentionVariant;
  readonly headDim: number;
  /** Heads that share keys and values. */
  readonly group: number;
  readonly capped: boolean;
  readonly sunk: boolean;
  /** Chunks of keys are added up by a second program. */
  readonly partial: boolean;
}

/** Checks the options of attention. @throws RmError INVALID_ARGUMENT for heads that its programs do not support. */
export function checkHeads(kernel: string, { heads, kvHeads, headDim, softcap }: AttentionOptions): void {
  ensure(
    headDim > 0 && headDim % 4 === 0 && headDim <= 256,
    `${kernel}: headDim is ${headDim}`,
    'headDim must be a multiple of 4, from 4 to 256.',
  );
  ensure(
    kvHeads > 0 && heads % kvHeads === 0 && heads > 0,
    `${kernel}: ${heads} heads cannot share ${kvHeads} key/value heads`,
    'The number of heads must be a multiple of the number of key/value heads.',
  );
  ensure(
    softcap === undefined || softcap > 0,
    `${kernel}: scores cannot be capped to ${softcap}`,
    'The cap must be above 0.',
  );
}

/**
 * Computes grouped-query attention; q, out [Tq, heads*headDim], k, v [Tk, kvHeads*headDim] f32, ranges [Tq, 2] u32: the
 * first key row of each query and one past its last. @throws RmError INVALID_ARGUMENT.
 */
export function attention(
  rec: Recorder,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  ranges: Tensor,
  out: Tensor,
  options: AttentionOptions,
): void {
  checkOperands('attention', rec, { q, k, v, ranges, out });
  checkArguments('attention', { options }, { options: attentionSettings });
  const { heads, kvHeads, headDim, sinks, mostKeys, ownKeys = false } = options;
  checkHeads('attention', options);
  const [queries] = checkMatrix('attention', 'q', q);
  const [rows] = checkMatrix('attention', 'k', k);
  checkTensor('attention', 'q', q, [queries, heads * headDim]);
  checkTensor('attention', 'k', k, [rows, kvHeads * headDim]);
  checkTensor('attention', 'v', v, [rows, kvHeads * headDim]);
  checkTensor('attention', 'ranges', ranges, [queries, 2], ['u32']);
  checkTensor('attention', 'out', out, [queries, heads * headDim]);
  if (sinks) checkTensor('attention', 'sinks', sinks, [heads]);
  const { device } = q;
  const keys = Math.min(rows, mostKeys ?? rows);
  const shape = { queries, keys, heads, kvHeads, ownKeys };
  const variant = options.variant ?? defaultVariant(device, shape);
  ensure(
    !options.variant || attentionVariants(device, shape).some(({ name }) => name === variant.name),
    `attention: the variant '${variant.name}' does not run here`,
    'Choose one that attentionVariants lists for the shape.',
  );
  const call = { q, k, v, ranges, out, shape, options };
  if ('chunk' in variant) recordFew(rec, call, variant);
  else recordMany(rec, call, variant);
}

/** A checked call. */
interface AttentionCall {
  q: Tensor;
  k: Tensor;
  v: Tensor;
  ranges: Tensor;
  out: Tensor;
  shape: AttentionShape;
  options: AttentionOptions;
}

/** Parameters from `scale` on. */
const lastParameters = ({ scale, softcap }: AttentionOptions, first: number): number[] => [
  f32Bits(scale),
  first,
  f32Bits(softcap ?? 0),
];

const sinksOf = ({ sinks }: AttentionOptions): Tensor[] => (sinks ? [sinks] : []);

/** One workgroup for a query, some of its heads and a chunk of its keys. */
function recordFew(
  rec: Recorder,
  { q, k, v, ranges, out, shape, options }: AttentionCall,
  variant: Extract<AttentionVariant, { chunk: number }>,
): void {
  const { device } = q;
  const { queries, keys, heads, kvHeads } = shape;
  const { headDim } = options;
  const capped = options.softcap !== undefined;
  const sunk = options.sinks !== undefined;
  const group = heads / kvHeads;
  const width = headDim / 4;
  const chunks = Math.max(1, Math.min(MOST_CHUNKS, Math.ceil(keys / variant.chunk)));
  const together = headsTogether(group);
  const partial = chunks > 1;
  using scope = new Scope(device);
  const target = partial
    ? scope.tensor([queries * heads * chunks, headDim + 4], 'f32', 'attention of chunks')
    : out;
  const program =
    variant.program === 'split keys'
      ? splitKeys(headDim, together, partial, capped, sunk)
      : subgroupKeys(headDim, together, partial, device.info.subgroupMinSize, capped, sunk);
  checkFirstUse<AttentionProgram>(rec, device, program.key, () => ({
    kernel: 'attention',
    variant: variant.program,
    details: { variant, headDim, group, capped, sunk, partial },
  }));
  rec.dispatch({
    program,
    tensors: [q, k, v, ranges, target, ...sinksOf(options)],
    params: [queries, heads, kvHeads, width, group / together, ...lastParameters(options, 0)],
    grid: [queries, chunks, heads / together],
    ...attentionCost(variant, { ...shape, headDim }),
  });
  if (partial) {
    runFlat(rec, combine, [target, out], out.size / 4, [width, chunks], {
      flops: 3 * target.size,
      bytes: target.byteLength + out.byteLength,
    });
  }
}

/** Workgroups take tiles of rows. */
function recordMany(
  rec: Recorder,
  { q, k, v, ranges, out, shape, options }: AttentionCall,
  variant: Exclude<AttentionVariant, { chunk: number }>,
): void {
  const { device } = q;
  const { queries, heads, kvHeads } = shape;
  const { headDim } = options;
  const capped = options.softcap !== undefined;
  const sunk = options.sinks !== undefined;
  const group = heads / kvHeads;
  const subgroup = device.info.subgroupMinSize;
  using scope = new Scope(device);
  const exponents =
    variant.program === 'matrices' ? exponentsOfHeads(rec, scope, [q, k, v], headDim) : undefined;
  const [program, side] = manyProgram(variant, headDim, subgroup, { capped, sunk });
  checkFirstUse<AttentionProgram>(rec, device, program.key, () => ({
    kernel: 'attention',
    variant: variant.program,
    details: { variant, headDim, group, capped, sunk, partial: false },
  }));
  const tiles = Math.ceil((queries * group) / tileOf(variant, headDim, subgroup).rows);
  const { flops, bytes } = attentionCost(variant, { ...shape, headDim }, subgroup);
  const step = tilesPerDispatch(tiles, flops, device);
  for (let first = 0; first < tiles; first += step) {
    const count = Math.min(step, tiles - first);
    rec.dispatch({
      program,
      tensors: [q, k, v, ranges, out, ...sinksOf(options), ...(exponents ? [exponents] : [])],
      params: [
        ...[queries, heads, kvHeads, headDim / 4, exponents ? (q.size + k.size) / headDim : side],
        ...lastParameters(options, first),
      ],
      grid: [count, kvHeads],
      flops: (flops * count) / tiles,
      bytes: (bytes * count) / tiles,
    });
  }
}

/** The program of a variant for many queries, and its `side`. */
function manyProgram(
  variant: Exclude<AttentionVariant, { chunk: number }>,
  headDim: number,
  subgroup: number,
  { capped, sunk }: AttentionForm,
): [program: ProgramSpec, side: number] {
  if (variant.program === 'matrices') {
    const { m, n, k, subgroup: width, sized } = variant.unit;
    return [matrices(headDim, capped, sunk, m, n, k, width, sized), 0];
  }
  return variant.program === 'tiled'
    ? [tiled(headDim, capped, sunk), SIDE]
    : [broadcast(headDim, subgroup, capped, sunk), broadcastRows(headDim, subgroup)];
}

/** Records the exponents of all heads of all rows of q, k and v, one after the other. */
function exponentsOfHeads(rec: Recorder, scope: Scope, tensors: readonly Tensor[], headDim: number): Tensor {
  const lines = tensors.map(({ size }) => size / headDim);
  const exponents = scope.tensor([lines.reduce((a, b) => a + b, 0)], 'u32', 'exponents of heads');
  const layout = { dtype: 'f32', kContiguous: true, aligned: true } as const;
  let first = 0;
  tensors.forEach((tensor, i) => {
    lineExponents(rec, tensor, layout, [lines[i]!, headDim], exponents, first);
    first += lines[i]!;
  });
  return exponents;
}
