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
import { cpus } from 'node:os';
import {
  checkArguments,
  type Device,
  ensure,
  f32Bits,
  flag,
  numeric,
  objectWith,
  optional,
  type Recorder,
  Scope,
  settings,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor, maybeNumber, maybeTensor } from '../shared/checks.js';
import { tilesPerDispatch } from '../shared/dispatchTime.js';
import { runFlat } from '../shared/flat.js';
import { broadcastSubgroup } from '../shared/subgroup.js';
import { checkFirstUse, notWrong } from '../shared/trustedVariants.js';
import { extentClass, tunedVariant } from '../shared/tunedVariants.js';
import { broadcast, broadcastRows } from './broadcast.js';
import { combine } from './combine.js';
import { splitKeys } from './splitKeys.js';
import { subgroupKeys } from './subgroupKeys.js';
import { ROWS, SIDE, tiled } from './tiled.js';

/** For up to this many queries, one workgroup per query is faster than tiles of mostly empty rows. */
const FEW_QUERIES = 4;

/** The extents on which the choice of variant depends. */
interface AttentionShape {
  queries: number;
  /** Keys that a query sees at most. */
  keys: number;
  heads: number;
  kvHeads: number;
  ownKeys?: boolean;
}

/**
 * A variant of `attention`: 'tiled' (many queries) and 'split keys' (few) for GPUs, 'broadcast' (many) and 'subgroup keys'
 * (few) for drivers that run on the CPU. With few queries, workgroups can share the keys, in chunks of `chunk`.
 */
export type AttentionVariant =
  | { name: string; program: 'tiled' | 'broadcast' }
  | { name: string; program: 'split keys' | 'subgroup keys'; chunk: number };

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

/** How many heads of a group one workgroup takes in the programs for few queries. */
const headsTogether = (group: number): number => [4, 3, 2, 1].find(n => group % n === 0)!;

/** Possible numbers of keys in a chunk; WHOLE does not divide the keys. */
const CHUNKS = [128, 512, 2048];
const WHOLE = Number.POSITIVE_INFINITY;
/** More chunks cost more in the second dispatch, which adds them up, than they save in the first. */
const MOST_CHUNKS = 32;

/** Number of workgroups that keeps a device busy; a driver that runs on the CPU needs one per core. */
const busyWorkgroups = { gpu: 512, software: cpus().length };

/** The shortest chunk that does not make too many chunks. */
function defaultChunk({ info }: Device, { queries, keys, heads, kvHeads }: AttentionShape): number {
  const workgroups = (queries * heads) / headsTogether(heads / kvHeads);
  const most = Math.min(MOST_CHUNKS, Math.floor(busyWorkgroups[info.kind] / workgroups));
  if (most < 2 || keys <= 2 * CHUNKS[0]!) return WHOLE;
  return CHUNKS.find(chunk => Math.ceil(keys / chunk) <= most) ?? CHUNKS.at(-1)!;
}

/** Whether to use the programs for drivers that run on the CPU, which need subgroups of one fixed size. */
function bySubgroups({ info, features }: Device): boolean {
  const subgroup = broadcastSubgroup(info, features);
  return info.kind === 'software' && (subgroup === 4 || subgroup === 8);
}

const fewQueries = (program: 'split keys' | 'subgroup keys', chunk: number): AttentionVariant => ({
  name: chunk === WHOLE ? program : `${program} by ${chunk}`,
  program,
  chunk,
});
const manyQueries = (program: 'tiled' | 'broadcast'): AttentionVariant => ({ name: program, program });

/** Whether one workgroup per query is the better division. */
const isFew = ({ queries, ownKeys }: AttentionShape): boolean => queries <= FEW_QUERIES || ownKeys === true;

function chooseVariant(device: Device, shape: AttentionShape): AttentionVariant {
  const software = bySubgroups(device);
  if (!isFew(shape)) return manyQueries(software ? 'broadcast' : 'tiled');
  return fewQueries(software ? 'subgroup keys' : 'split keys', defaultChunk(device, shape));
}

/** The variants that are worth measuring on a device, the default first. */
export function attentionVariants(device: Device, shape: AttentionShape): AttentionVariant[] {
  const software = bySubgroups(device);
  const chunks = [WHOLE, ...CHUNKS.filter(chunk => chunk < shape.keys)];
  const few = (['subgroup keys', 'split keys'] as const)
    .filter(program => software || program === 'split keys')
    .flatMap(program => chunks.map(chunk => fewQueries(program, chunk)));
  const all = [
    chooseVariant(device, shape),
    ...(isFew(shape) ? few : []),
    ...(software ? [manyQueries('broadcast')] : []),
    manyQueries('tiled'),
  ];
  return all.filter(({ name }, i) => all.findIndex(other => other.name === name) === i);
}

/** The variant that was measured as fastest on this device, else the built-in choice, unless it is wrong there. */
function defaultVariant(device: Device, shape: AttentionShape): AttentionVariant {
  const variants = () => attentionVariants(device, shape);
  const nameOf = ({ name }: AttentionVariant) => name;
  const choice =
    tunedVariant(
      device,
      'attention',
      () => attentionClass(shape),
      variants,
      nameOf,
      ({ program }) => isFew(shape) || program === 'tiled' || program === 'broadcast',
    ) ?? chooseVariant(device, shape);
  return notWrong(device, 'attention', choice, nameOf, variants);
}

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

/** The class of a shape: one measurement of the variants serves all shapes of a class. */
export const attentionClass = ({ queries, keys, ownKeys }: AttentionShape): string =>
  `${extentClass(queries)} queries, ${extentClass(keys)} keys${ownKeys ? ', each its own' : ''}`;

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
  const { heads, kvHeads, headDim, scale, softcap, sinks, mostKeys, ownKeys = false } = options;
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
  const group = heads / kvHeads;
  const work = {
    // With many queries, half of all pairs: ranges are causal.
    flops: (isFew(shape) ? 4 : 2) * queries * keys * heads * headDim,
    bytes: 8 * (q.size + keys * kvHeads * headDim),
  };
  const capped = softcap !== undefined;
  const sunk = sinks !== undefined;
  const more = sinks ? [sinks] : [];
  const [factor, cap] = [f32Bits(scale), f32Bits(softcap ?? 0)];
  const width = headDim / 4;
  const subgroup = device.info.subgroupMinSize;
  if (variant.program === 'split keys' || variant.program === 'subgroup keys') {
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
        : subgroupKeys(headDim, together, partial, subgroup, capped, sunk);
    checkFirstUse<AttentionProgram>(rec, device, program.key, () => ({
      kernel: 'attention',
      variant: variant.program,
      details: { variant, headDim, group, capped, sunk, partial },
    }));
    rec.dispatch({
      program,
      tensors: [q, k, v, ranges, target, ...more],
      params: [queries, heads, kvHeads, width, group / together, factor, 0, cap],
      grid: [queries, chunks, heads / together],
      ...work,
    });
    if (partial) {
      runFlat(rec, combine, [target, out], out.size / 4, [width, chunks], {
        flops: 3 * target.size,
        bytes: target.byteLength + out.byteLength,
      });
    }
    return;
  }
  const [program, tileRows, side] =
    variant.program === 'broadcast'
      ? [
          broadcast(headDim, subgroup, capped, sunk),
          broadcastRows(headDim, subgroup),
          broadcastRows(headDim, subgroup),
        ]
      : [tiled(headDim, capped, sunk), ROWS, SIDE];
  checkFirstUse<AttentionProgram>(rec, device, program.key, () => ({
    kernel: 'attention',
    variant: variant.program,
    details: { variant, headDim, group, capped, sunk, partial: false },
  }));
  const tiles = Math.ceil((queries * group) / tileRows);
  const step = tilesPerDispatch(tiles, work.flops, device);
  for (let first = 0; first < tiles; first += step) {
    const count = Math.min(step, tiles - first);
    rec.dispatch({
      program,
      tensors: [q, k, v, ranges, out, ...more],
      params: [queries, heads, kvHeads, width, side, factor, first, cap],
      grid: [count, kvHeads],
      flops: (work.flops * count) / tiles,
      bytes: (work.bytes * count) / tiles,
    });
  }
}
