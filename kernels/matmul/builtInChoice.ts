import {
  type AdapterInfo,
  type DeviceFeatures,
  entryOf,
  type Form,
  flag,
  isRecord,
  oneOf,
  record,
  type SubgroupMatrixConfig,
  shownKind,
  whole,
} from '../../engine/index.js';
import type { FloatType } from '../shared/checks.js';
import { broadcastSubgroup } from '../shared/subgroup.js';
import { arrangement, type FactorTypes, type MatrixTile, tileFits } from './matrixTiles.js';

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

/** How this device multiplies subgroup matrices: m x k times k x n, f16 with f32 sums. */
export interface MatrixUnit {
  m: number;
  n: number;
  k: number;
  /** Threads of a subgroup. */
  subgroup: number;
  /** The program asks for that size; else the device has no other. */
  sized: boolean;
}

/** Rows of the tiles of 'broadcast'. */
export const broadcastRows = [2, 4, 8, 16, 32] as const;

/** The smallest tile of up to `most` rows that takes m rows at once. */
const rowsFor = (m: number, most: 16 | 32): (typeof broadcastRows)[number] =>
  broadcastRows.find(rows => rows >= Math.min(m, most))!;

/** A variant of `matmul` with its parameters. */
export type MatmulChoice =
  | { variant: 'broadcast'; subgroup: number; rows: 2 | 4 | 8 | 16 | 32 }
  | { variant: 'tiled'; rows: 64 | 128; columns: 64 | 128; splits: number }
  | { variant: 'matvec'; perLane: boolean }
  | ({ variant: 'subgroupMatrix'; unit: MatrixUnit } & MatrixTile);

/** The form of a `MatmulChoice`. */
export const aMatmulChoice: Form<unknown> = (value, place) => {
  if (!isRecord(value)) return `${place} is ${shownKind(value)}, not one of matmulVariants`;
  const form = entryOf(choices, String(value.variant));
  if (!form)
    return `${place}.variant is ${shownKind(value.variant)}, not one of ${Object.keys(choices).join(', ')}`;
  return form(value, place);
};

const choices: Readonly<Record<MatmulChoice['variant'], Form<unknown>>> = {
  broadcast: record({ subgroup: whole(1), rows: oneOf(...broadcastRows) }),
  tiled: record({ rows: oneOf(64, 128), columns: oneOf(64, 128), splits: whole(1) }),
  matvec: record({ perLane: flag }),
  subgroupMatrix: record({
    unit: record({ m: whole(1), n: whole(1), k: whole(1), subgroup: whole(1), sized: flag }),
    rows: whole(1),
    columns: whole(1),
  }),
};

type MatmulInfo = Pick<
  AdapterInfo,
  | 'kind'
  | 'vendor'
  | 'device'
  | 'description'
  | 'subgroupMinSize'
  | 'subgroupMaxSize'
  | 'subgroupMatrixConfigs'
>;

type MatmulFeatures = Pick<DeviceFeatures, 'f16' | 'subgroups' | 'subgroupMatrix' | 'subgroupSizeControl'>;

/** Whether matrices divide the tiles and steps of subgroupMatrix.ts evenly: the least are 64 x 64 and 16 k. */
function fillsTiles({ m, n, k, subgroup }: Omit<MatrixUnit, 'sized'>): boolean {
  const [down, across] = arrangement(subgroup);
  return (64 / down) % m === 0 && (64 / across) % n === 0 && 16 % k === 0;
}

/** The subgroup size for matrices: the only one, or where the program can ask for one, 32 or the nearest to it. */
function matrixSubgroup(
  { subgroupMinSize: least, subgroupMaxSize: most }: MatmulInfo,
  { subgroupSizeControl }: MatmulFeatures,
): Pick<MatrixUnit, 'subgroup' | 'sized'> | undefined {
  const sized = least !== most;
  const subgroup = Math.min(Math.max(32, least), most);
  if (subgroup < 8 || subgroup > 64 || (sized && !subgroupSizeControl)) return undefined;
  return { subgroup, sized };
}

/**
 * The largest subgroup matrices of f16 with sums in f32 that this device has; undefined without any. Intel's count as none:
 * the tiles need more registers than its subgroups have.
 */
export function matrixUnit(info: MatmulInfo, features: MatmulFeatures): MatrixUnit | undefined {
  const { f16, subgroups, subgroupMatrix } = features;
  if (!f16 || !subgroups || !subgroupMatrix || info.vendor === 'intel') return undefined;
  const size = ({ m, n, k }: SubgroupMatrixConfig) => m * n * k;
  const width = matrixSubgroup(info, features);
  if (!width) return undefined;
  const [largest] = info.subgroupMatrixConfigs
    .filter(({ component, result }) => component === 'f16' && result === 'f32')
    .filter(config => fillsTiles({ ...config, ...width }))
    .sort((a, b) => size(b) - size(a));
  return largest && { m: largest.m, n: largest.n, k: largest.k, ...width };
}

/**
 * GPUs whose matrix units do at least six times the multiply-adds of their f32 units, by their data sheets, so that two or
 * three products are faster than one in f32. On others `rm-engine tune` finds out.
 */
const strongMatrices = /\b(?:V100|T4|A30|A100|A800|H20|H100|H200|H800|GH200|B100|B200|GB200)\b/i;

/** Whether a GPU's matrix units are so fast; by name. */
export const hasStrongMatrices = ({
  device,
  description,
}: Pick<MatmulInfo, 'device' | 'description'>): boolean => strongMatrices.test(`${device} ${description}`);

/** The least rows for which reading an operand once more, to scale it, costs little. */
const LEAST_ROWS = 64;

/** The tiles for products of these types on matrix units, the smaller first. */
export const matrixTiles = (types: FactorTypes, single: boolean): MatrixTile[] =>
  (
    [
      [64, 64],
      [64, 128],
      [128, 64],
      [128, 128],
    ] as const
  )
    .map(([rows, columns]) => ({ rows, columns, single }))
    .filter(tile => (types.length === 2 || tile.columns === 128) && tileFits(types, tile));

/** The built-in choice of matrix units for a product, where they are faster: the largest tile that is numerous enough. */
function chooseMatrices(
  info: MatmulInfo,
  features: MatmulFeatures,
  shape: Pick<MatmulShape, 'm' | 'n'>,
  types: FactorTypes,
  single: boolean,
): MatmulChoice | undefined {
  const f16 = types.every(dtype => dtype === 'f16');
  const faster = f16 || single || hasStrongMatrices(info);
  if (!faster || info.kind === 'software' || (!f16 && shape.m < LEAST_ROWS)) return undefined;
  const unit = matrixUnit(info, features);
  if (!unit) return undefined;
  const tiles = matrixTiles(types, single);
  const numerous = tiles.filter(({ rows, columns }) => tilesOf(shape, rows, columns) >= ENOUGH_TILES);
  const tile = numerous.at(-1) ?? tiles[0];
  return tile && { variant: 'subgroupMatrix', unit, ...tile };
}

/** Number of tiles that keeps a large GPU busy: about one per processor. */
const ENOUGH_TILES = 128;

/** Intel's threads have too few registers for the sums of tiles beyond 64 x 64: Mesa's compiler spills them. */
const holdsLargeTiles = ({ vendor }: MatmulInfo): boolean => vendor !== 'intel';

/** Shortest range of k in a product that is split along k. */
const LEAST_RANGE = 256;

const tilesOf = ({ m, n }: Pick<MatmulShape, 'm' | 'n'>, rows: number, columns: number): number =>
  Math.ceil(m / rows) * Math.ceil(n / columns);

/**
 * The built-in choice of matmul variant for a device and a shape. Software drivers get 'broadcast', without workgroup
 * memory. GPUs get matrix units where they are faster, else workgroup tiles: the largest that are still numerous enough to
 * keep many processors busy. If even the smallest tiles are too few, k is split.
 *
 * @param single f32 operands may be rounded to 11 bits.
 */
export function chooseMatmul(
  info: MatmulInfo,
  features: MatmulFeatures,
  shape: MatmulShape,
  dtypes: OperandTypes,
  single = false,
): MatmulChoice {
  const { m, n, k, transposeA, transposeB } = shape;
  const software = info.kind === 'software';
  const broadcast = software ? broadcastSubgroup(info, features) : undefined;
  if (m <= (broadcast ? 1 : 4) && transposeB && !transposeA) return { variant: 'matvec', perLane: software };
  const matrices = chooseMatrices(info, features, shape, [dtypes.a, dtypes.b], single);
  if (matrices) return matrices;
  if (broadcast) return { variant: 'broadcast', subgroup: broadcast, rows: rowsFor(m, 32) };
  const enough = (rows: number, columns: number) =>
    holdsLargeTiles(info) && tilesOf(shape, rows, columns) >= ENOUGH_TILES;
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
  types: FactorTypes,
  single = false,
): MatmulChoice {
  const software = info.kind === 'software';
  const broadcast = software ? broadcastSubgroup(info, features) : undefined;
  if (m <= (broadcast ? 1 : 4)) return { variant: 'matvec', perLane: software };
  const matrices = chooseMatrices(info, features, { m, n: 2 * n }, types, single);
  if (matrices) return matrices;
  if (broadcast) return { variant: 'broadcast', subgroup: broadcast, rows: rowsFor(m, 16) };
  const rows = holdsLargeTiles(info) && tilesOf({ m, n }, 128, 64) >= ENOUGH_TILES ? 128 : 64;
  return { variant: 'tiled', rows, columns: 128, splits: 1 };
}
