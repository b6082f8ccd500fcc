import { checkArguments, type Device, flag, objectWith, oneOf, settings, whole } from '../../engine/index.js';
import { floats } from '../shared/checks.js';
import { broadcastSubgroup } from '../shared/subgroup.js';
import { notWrong } from '../shared/trustedVariants.js';
import { extentClass, tunedVariant } from '../shared/tunedVariants.js';
import {
  aMatmulChoice,
  broadcastRows,
  chooseGatedMatmul,
  chooseMatmul,
  type MatmulChoice,
  type MatmulShape,
  matrixTiles,
  matrixUnit,
  type OperandTypes,
} from './builtInChoice.js';
import { type FactorTypes, tileFits } from './matrixTiles.js';
import { RANGE_STEP } from './tiled.js';

/** Name of a variant in tests, benchmarks and program keys, e.g. "tiled 128x64". */
export function matmulName(choice: MatmulChoice): string {
  checkArguments('matmulName', { choice }, { choice: aMatmulChoice });
  switch (choice.variant) {
    case 'broadcast':
      return `broadcast ${choice.rows}x${4 * choice.subgroup}`;
    case 'tiled':
      return `tiled ${choice.rows}x${choice.columns}${choice.splits > 1 ? ` split ${choice.splits}` : ''}`;
    case 'matvec':
      return `matvec${choice.perLane ? ' per lane' : ''}`;
    case 'subgroupMatrix': {
      const { rows, columns, unit, single } = choice;
      return `subgroupMatrix ${rows}x${columns} of ${unit.m}x${unit.n}x${unit.k}${single ? ' single' : ''}`;
    }
  }
}

/** Above this many elements of out, k is not split: there are enough tiles, and the partial products would be large. */
const MOST_SPLIT = 2 ** 20;

/** The part of a device that says which variants it can run. */
export type MatmulDevice = Pick<Device, 'info' | 'features'>;
type Extents = Pick<MatmulShape, 'm' | 'n' | 'k'>;

/** Whether a variant computes this product on this device. */
export function canRunMatmul(
  { info, features }: MatmulDevice,
  choice: MatmulChoice,
  { m, n, transposeA, transposeB }: MatmulShape,
  dtypes: OperandTypes,
): boolean {
  switch (choice.variant) {
    case 'broadcast':
      return choice.subgroup === broadcastSubgroup(info, features);
    case 'tiled':
      return choice.splits === 1 || m * n <= MOST_SPLIT;
    case 'matvec':
      return m <= 4 && transposeB && !transposeA;
    case 'subgroupMatrix':
      return canRunMatrices({ info, features }, choice, [dtypes.a, dtypes.b]);
  }
}

/** Whether this device has the matrix units of a choice, and its tile has room for operands of these types. */
function canRunMatrices(
  { info, features }: MatmulDevice,
  choice: Extract<MatmulChoice, { variant: 'subgroupMatrix' }>,
  types: FactorTypes,
): boolean {
  const unit = matrixUnit(info, features);
  return JSON.stringify(unit) === JSON.stringify(choice.unit) && tileFits(types, choice);
}

/** The variants on matrix units for products of these types, if the device has any. */
function matrixVariants(
  { info, features }: MatmulDevice,
  { m, n }: Pick<Extents, 'm' | 'n'>,
  types: FactorTypes,
  single: boolean,
): MatmulChoice[] {
  const unit = matrixUnit(info, features);
  if (!unit) return [];
  return matrixTiles(types, single)
    .filter(({ rows, columns }) => (rows === 64 || m > 64) && (columns === 64 || n > 64))
    .map(tile => ({ variant: 'subgroupMatrix', unit, ...tile }));
}

const extent = whole();
const variantArguments = {
  device: objectWith('a device', 'info', 'features'),
  shape: settings<MatmulShape>({ m: extent, n: extent, k: extent, transposeA: flag, transposeB: flag }),
  dtypes: settings<OperandTypes>({ a: oneOf(...floats), b: oneOf(...floats) }),
  single: flag,
};

/**
 * All variants that compute this product on this device, the built-in choice first.
 *
 * @param single those that round f32 operands to 11 bits are among them.
 */
export function matmulVariants(
  device: MatmulDevice,
  shape: MatmulShape,
  dtypes: OperandTypes,
  single = false,
): MatmulChoice[] {
  checkArguments('matmulVariants', { device, shape, dtypes, single }, variantArguments);
  const { info, features } = device;
  const { m, n, k } = shape;
  const candidates: MatmulChoice[] = [
    chooseMatmul(info, features, shape, dtypes, single),
    ...broadcasts(device, m, 32),
    ...matvecs,
    { variant: 'tiled', rows: 64, columns: 64, splits: 1 },
    ...(k >= 2 * RANGE_STEP ? [{ variant: 'tiled', rows: 64, columns: 64, splits: 4 } as const] : []),
    ...(m > 64 ? [{ variant: 'tiled', rows: 128, columns: 64, splits: 1 } as const] : []),
    ...(m > 64 && n > 64 ? [{ variant: 'tiled', rows: 128, columns: 128, splits: 1 } as const] : []),
    ...matrixVariants(device, shape, [dtypes.a, dtypes.b], single),
  ];
  return distinct(candidates.filter(choice => canRunMatmul(device, choice, shape, dtypes)));
}

/** The class of a shape: one measurement of the variants serves all shapes of a class. */
export const matmulClass = (
  { m, n, k, transposeA, transposeB }: MatmulShape,
  { a, b }: OperandTypes,
): string => `${transposeA ? 'T' : 'N'}${transposeB ? 'T' : 'N'} ${classOf({ m, n, k })} ${a} x ${b}`;

const classOf = ({ m, n, k }: Extents): string => `${extentClass(m)}x${extentClass(n)}x${extentClass(k)}`;

/** The variant that was measured as fastest on this device, else the built-in choice, unless it is wrong there. */
export function defaultMatmul(device: Device, shape: MatmulShape, dtypes: OperandTypes): MatmulChoice {
  const variants = () => matmulVariants(device, shape, dtypes);
  const choice =
    tunedVariant(
      device,
      'matmul',
      () => matmulClass(shape, dtypes),
      variants,
      matmulName,
      variant => canRunMatmul(device, variant, shape, dtypes),
    ) ?? chooseMatmul(device.info, device.features, shape, dtypes);
  return notWrong(device, 'matmul', choice, matmulName, variants);
}

/** Whether a variant computes batches of products: those do that neither split k nor scale operands first. */
export const computesBatches = (choice: MatmulChoice): boolean =>
  choice.variant !== 'subgroupMatrix' && (choice.variant !== 'tiled' || choice.splits === 1);

/** The default variant of a batch of products of this shape. */
export function batchedMatmul(device: Device, shape: MatmulShape, dtypes: OperandTypes): MatmulChoice {
  const choice = defaultMatmul(device, shape, dtypes);
  if (computesBatches(choice)) return choice;
  const variants = () => matmulVariants(device, shape, dtypes).filter(computesBatches);
  const one: MatmulChoice = choice.variant === 'tiled' ? { ...choice, splits: 1 } : variants()[0]!;
  return notWrong(device, 'matmul', one, matmulName, variants);
}

/** Whether a variant computes this gated product on this device. */
export function canRunGatedMatmul(
  { info, features }: MatmulDevice,
  choice: MatmulChoice,
  m: number,
  types: FactorTypes,
): boolean {
  switch (choice.variant) {
    case 'broadcast':
      return choice.subgroup === broadcastSubgroup(info, features) && choice.rows <= 16;
    case 'tiled':
      return choice.columns === 128 && choice.splits === 1;
    case 'matvec':
      return m <= 4;
    case 'subgroupMatrix':
      return choice.columns === 128 && canRunMatrices({ info, features }, choice, types);
  }
}

/** All variants of a gated product [m,k] x two of [n,k] on this device, like `matmulVariants`. */
export function gatedMatmulVariants(
  device: MatmulDevice,
  shape: Extents,
  types: FactorTypes,
  single = false,
): MatmulChoice[] {
  const { info, features } = device;
  const { m, n } = shape;
  const candidates: MatmulChoice[] = [
    chooseGatedMatmul(info, features, shape, types, single),
    ...broadcasts(device, m, 16),
    ...matvecs,
    { variant: 'tiled', rows: 64, columns: 128, splits: 1 },
    ...(m > 64 ? [{ variant: 'tiled', rows: 128, columns: 128, splits: 1 } as const] : []),
    ...matrixVariants(device, { m, n: 2 * n }, types, single),
  ];
  return distinct(candidates.filter(choice => canRunGatedMatmul(device, choice, m, types)));
}

/** The class of a gated product's shape, like `matmulClass`. */
export const gatedMatmulClass = classOf;

/** The default variant of a gated product, like `defaultMatmul`. */
export function defaultGatedMatmul(device: Device, shape: Extents, types: FactorTypes): MatmulChoice {
  const variants = () => gatedMatmulVariants(device, shape, types);
  const choice =
    tunedVariant(
      device,
      'gatedMatmul',
      () => gatedMatmulClass(shape),
      variants,
      matmulName,
      variant => canRunGatedMatmul(device, variant, shape.m, types),
    ) ?? chooseGatedMatmul(device.info, device.features, shape, types);
  return notWrong(device, 'gatedMatmul', choice, matmulName, variants);
}

/** The default variant of a grouped product, of which a group has so many rows, about. */
export function groupedChoice(device: Device, shape: Extents, types: FactorTypes): MatmulChoice {
  const [a, b] = types;
  if (types.length === 2) {
    return batchedMatmul(device, { ...shape, transposeA: false, transposeB: true }, { a, b });
  }
  const choice = defaultGatedMatmul(device, shape, types);
  if (computesBatches(choice)) return choice;
  const variants = () => gatedMatmulVariants(device, shape, types).filter(computesBatches);
  return notWrong(device, 'gatedMatmul', variants()[0]!, matmulName, variants);
}

const matvecs: readonly MatmulChoice[] = [
  { variant: 'matvec', perLane: true },
  { variant: 'matvec', perLane: false },
];

/** The tiles of 'broadcast' of up to `most` rows that m rows fill at least by half; of more rows, not the smallest, which read B too often. */
function broadcasts({ info, features }: MatmulDevice, m: number, most: number): MatmulChoice[] {
  const subgroup = broadcastSubgroup(info, features);
  if (!subgroup) return [];
  return broadcastRows
    .filter(rows => rows <= most && (rows === 8 || m > rows / 2) && (rows >= 8 || m <= rows))
    .map(rows => ({ variant: 'broadcast', subgroup, rows }));
}

const distinct = (choices: readonly MatmulChoice[]): MatmulChoice[] => [
  ...new Map(choices.map(choice => [matmulName(choice), choice])).values(),
];
