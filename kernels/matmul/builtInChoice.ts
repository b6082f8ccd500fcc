import type { AdapterInfo, DeviceFeatures } from '../../engine/index.js';
import type { FloatType } from '../shared/checks.js';
import { broadcastSubgroup } from '../shared/subgroup.js';

/** Extents of a product [m,k] x [k,n] and the storage order of its operands. */
export interface MatmulShape {
  m: number;
  n: number;
  k: number;
  transposeA: boolean;
  transposeB: boolean;
}

/** Dtypes of a product's operands. */
export interface OperandTypes {
  a: FloatType;
  b: FloatType;
}

/** Extents of a subgroup-matrix product m x k times k x n. */
export interface MatrixExtents {
  m: number;
  n: number;
  k: number;
}

/** A variant of `matmul` with its parameters. */
export type MatmulChoice =
  | { variant: 'broadcast'; subgroup: number; rows: 8 | 16 | 32 }
  | { variant: 'tiled'; rows: 64 | 128; columns: 64 | 128; splits: number }
  | { variant: 'matvec'; perLane: boolean }
  | { variant: 'subgroupMatrix'; rows: 64 | 128; columns: 64 | 128; config: MatrixExtents };

type MatmulInfo = Pick<AdapterInfo, 'kind' | 'subgroupMinSize' | 'subgroupMaxSize' | 'subgroupMatrixConfigs'>;

type MatmulFeatures = Pick<DeviceFeatures, 'f16' | 'subgroups' | 'subgroupMatrix'>;

/** Whether matrices of these extents divide the tiles and steps of subgroupMatrix.ts evenly. */
const fillsTiles = ({ m, n, k }: MatrixExtents): boolean => 32 % m === 0 && 16 % n === 0 && 16 % k === 0;

/**
 * The subgroup matrices for a product, if this device has suitable ones: both operands f16, sums in f32, subgroups of 32.
 * Other operands would have to become f16: f32 would lose 13 bits, and bf16 reaches 3e38 where f16 ends at 65504.
 */
export function subgroupMatrixConfig(
  { subgroupMinSize, subgroupMaxSize, subgroupMatrixConfigs }: MatmulInfo,
  { f16, subgroups, subgroupMatrix }: MatmulFeatures,
  dtypes: OperandTypes,
): MatrixExtents | undefined {
  if (!f16 || !subgroups || !subgroupMatrix || dtypes.a !== 'f16' || dtypes.b !== 'f16') return undefined;
  if (subgroupMinSize !== 32 || subgroupMaxSize !== 32) return undefined;
  const size = ({ m, n, k }: MatrixExtents) => m * n * k;
  const [largest] = subgroupMatrixConfigs
    .filter(config => config.component === 'f16' && config.result === 'f32' && fillsTiles(config))
    .sort((a, b) => size(b) - size(a));
  return largest && { m: largest.m, n: largest.n, k: largest.k };
}

/** Number of tiles that keeps a large GPU busy: about one per processor. */
const ENOUGH_TILES = 128;

/** Shortest range of k in a product that is split along k. */
const LEAST_RANGE = 256;

const tilesOf = ({ m, n }: Pick<MatmulShape, 'm' | 'n'>, rows: number, columns: number): number =>
  Math.ceil(m / rows) * Math.ceil(n / columns);

/**
 * The built-in choice of matmul variant for a device and a shape. Software drivers get 'broadcast', without workgroup
 * memory. GPUs get subgroup matrices for f16, else workgroup tiles: the largest that are still numerous enough to keep many
 * processors busy. If even the smallest tiles are too few, k is split.
 */
export function chooseMatmul(
  info: MatmulInfo,
  features: MatmulFeatures,
  shape: MatmulShape,
  dtypes: OperandTypes,
): MatmulChoice {
  const { m, n, k, transposeA, transposeB } = shape;
  const software = info.kind === 'software';
  if (m <= 4 && transposeB && !transposeA) return { variant: 'matvec', perLane: software };
  const subgroup = broadcastSubgroup(info, features);
  if (software && subgroup) {
    return { variant: 'broadcast', subgroup, rows: m <= 8 ? 8 : m <= 16 ? 16 : 32 };
  }
  const enough = (rows: number, columns: number) => tilesOf(shape, rows, columns) >= ENOUGH_TILES;
  const config = subgroupMatrixConfig(info, features, dtypes);
  if (config) {
    const size = enough(128, 128) ? 128 : 64;
    return { variant: 'subgroupMatrix', rows: size, columns: size, config };
  }
  if (enough(128, 128)) return { variant: 'tiled', rows: 128, columns: 128, splits: 1 };
  if (enough(128, 64)) return { variant: 'tiled', rows: 128, columns: 64, splits: 1 };
  const splits = software
    ? 1
    : Math.min(Math.floor(k / LEAST_RANGE), Math.floor(ENOUGH_TILES / tilesOf({ m, n }, 64, 64)));
  return { variant: 'tiled', rows: 64, columns: 64, splits: Math.max(1, splits) };
}

/** The built-in choice for a gated product [m,k] x two of [n,k], like chooseMatmul but with twice as many sums per column. */
export function chooseGatedMatmul(
  info: MatmulInfo,
  features: MatmulFeatures,
  { m, n }: Pick<MatmulShape, 'm' | 'n' | 'k'>,
): MatmulChoice {
  const software = info.kind === 'software';
  if (m <= 4) return { variant: 'matvec', perLane: software };
  const subgroup = broadcastSubgroup(info, features);
  if (software && subgroup) return { variant: 'broadcast', subgroup, rows: m <= 8 ? 8 : 16 };
  const rows = tilesOf({ m, n }, 128, 64) >= ENOUGH_TILES ? 128 : 64;
  return { variant: 'tiled', rows, columns: 128, splits: 1 };
}
