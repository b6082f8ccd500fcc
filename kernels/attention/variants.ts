import { cpus } from 'node:os';
import type { Device } from '../../engine/index.js';
import { hasStrongMatrices, type MatrixUnit, matrixUnit } from '../matmul/builtInChoice.js';
import { broadcastSubgroup } from '../shared/subgroup.js';
import { notWrong } from '../shared/trustedVariants.js';
import { extentClass, tunedVariant } from '../shared/tunedVariants.js';
import { fitsAttention, MATRIX_MEMORY } from './matrices.js';

/** For up to this many queries, one workgroup per query is faster than tiles of mostly empty rows. */
const FEW_QUERIES = 4;

/** For at least this many queries, finding the exponents of all keys and values costs little beside their products. */
const MANY_QUERIES = 64;

/** The extents on which the choice of variant depends. */
export interface AttentionShape {
  queries: number;
  /** Keys that a query sees at most. */
  keys: number;
  heads: number;
  kvHeads: number;
  ownKeys?: boolean;
}

/**
 * A variant of `attention`: 'tiled' or 'matrices' (many queries) and 'split keys' (few) for GPUs, 'broadcast' (many) and
 * 'subgroup keys' (few) for drivers that run on the CPU. With few queries, workgroups can share the keys, in chunks of `chunk`.
 */
export type AttentionVariant =
  | { name: string; program: 'tiled' | 'broadcast' }
  | { name: string; program: 'matrices'; unit: MatrixUnit }
  | { name: string; program: 'split keys' | 'subgroup keys'; chunk: number };

/** How many heads of a group one workgroup takes in the programs for few queries. */
export const headsTogether = (group: number): number => [4, 3, 2, 1].find(n => group % n === 0)!;

/** Possible numbers of keys in a chunk; WHOLE does not divide the keys. */
const CHUNKS = [128, 512, 2048];
export const WHOLE = Number.POSITIVE_INFINITY;
/** More chunks cost more in the second dispatch, which adds them up, than they save in the first. */
export const MOST_CHUNKS = 32;

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
export const isFew = ({ queries, ownKeys }: AttentionShape): boolean =>
  queries <= FEW_QUERIES || ownKeys === true;

/** The matrix unit of a device, if tiles of attention fit it and its workgroup memory. */
function attentionUnit({ info, features, limits }: Device): MatrixUnit | undefined {
  const unit = matrixUnit(info, features);
  return unit && fitsAttention(unit) && limits.maxComputeWorkgroupStorageSize >= MATRIX_MEMORY
    ? unit
    : undefined;
}

const byMatrices = (unit: MatrixUnit): AttentionVariant => ({
  name: `matrices of ${unit.m}x${unit.n}x${unit.k}`,
  program: 'matrices',
  unit,
});

function chooseVariant(device: Device, shape: AttentionShape): AttentionVariant {
  const software = bySubgroups(device);
  if (!isFew(shape)) {
    const { info } = device;
    const faster = info.kind === 'gpu' && shape.queries >= MANY_QUERIES && hasStrongMatrices(info);
    const unit = faster ? attentionUnit(device) : undefined;
    return unit ? byMatrices(unit) : manyQueries(software ? 'broadcast' : 'tiled');
  }
  return fewQueries(software ? 'subgroup keys' : 'split keys', defaultChunk(device, shape));
}

/** The variants that are worth measuring on a device, the default first. */
export function attentionVariants(device: Device, shape: AttentionShape): AttentionVariant[] {
  const software = bySubgroups(device);
  const chunks = [WHOLE, ...CHUNKS.filter(chunk => chunk < shape.keys)];
  const few = (['subgroup keys', 'split keys'] as const)
    .filter(program => software || program === 'split keys')
    .flatMap(program => chunks.map(chunk => fewQueries(program, chunk)));
  const unit = isFew(shape) ? undefined : attentionUnit(device);
  const all = [
    chooseVariant(device, shape),
    ...(isFew(shape) ? few : []),
    ...(software ? [manyQueries('broadcast')] : []),
    manyQueries('tiled'),
    ...(unit ? [byMatrices(unit)] : []),
  ];
  return all.filter(({ name }, i) => all.findIndex(other => other.name === name) === i);
}

/** The variant that was measured as fastest on this device, else the built-in choice, unless it is wrong there. */
export function defaultVariant(device: Device, shape: AttentionShape): AttentionVariant {
  const variants = () => attentionVariants(device, shape);
  const nameOf = ({ name }: AttentionVariant) => name;
  const choice =
    tunedVariant(
      device,
      'attention',
      () => attentionClass(shape),
      variants,
      nameOf,
      variant => isFew(shape) || !('chunk' in variant),
    ) ?? chooseVariant(device, shape);
  return notWrong(device, 'attention', choice, nameOf, variants);
}

/** The class of a shape: one measurement of the variants serves all shapes of a class. */
export const attentionClass = ({ queries, keys, ownKeys }: AttentionShape): string =>
  `${extentClass(queries)} queries, ${extentClass(keys)} keys${ownKeys ? ', each its own' : ''}`;
