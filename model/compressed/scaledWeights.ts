import { asU32 } from '../../engine/index.js';
import type { CodeFormat } from '../../kernels/index.js';
import type { ScaleGrid, WeightScheme } from '../families/compression.js';
import { type CompressedTensor, columnOrder } from './compressedTensor.js';
import { codeInStream, type RowParts } from './rowRecords.js';
import { plainFloats, type StoredPart, type StoredParts, scaleFloats } from './storedParts.js';

/** Names of the parts beside the weights of a module. */
export const scaleNames = ['weight_scale', 'weight_scale_inv'] as const;
export const scaledParts = [
  ...scaleNames,
  ...['weight_zero_point', 'weight_global_scale', 'weight_g_idx', 'weight_shape'],
];

/** The codes of a module's weights. */
interface Codes {
  readonly part: StoredPart;
  readonly format: CodeFormat;
  readonly bits: number;
  readonly columns: number;
  /** What makes an unsigned code signed. */
  readonly offset: number;
  readonly type: WeightScheme['type'];
}

/**
 * Weights with scales beside them: of a matrix, a row, a group of a row or a block. With `weight_packed` several numbers are
 * in a word or byte.
 *
 * Source: compressed_tensors/compressors, FineGrainedFP8 and FbgemmFp8 of transformers. @throws RmError CHECKPOINT_CORRUPT.
 */
export async function scaledWeights(
  stored: StoredParts,
  module: string,
  schemes: readonly WeightScheme[],
): Promise<CompressedTensor> {
  const codes = await codesOf(stored, module, schemes);
  const rows = codes.part.shape[0]!;
  const { columns, bits, type } = codes;
  const scale =
    scaleNames.map(name => stored.find(`${module}.${name}`)).find(Boolean) ??
    stored.require(module, usualScale(stored));
  stored.check(scale, type === 'float' ? scaleFloats : plainFloats, scale.shape);
  const fitting = schemes.filter(scheme => scheme.type === type && scheme.bits === bits);
  if (fitting.length === 0) {
    const { name, storage } = codes.part;
    throw stored.damaged(name, `is stored as ${storage}, of which config.json knows nothing`);
  }
  const grid = gridOf(stored, scale, fitting, rows, columns);
  const groups = Math.ceil(columns / grid.columns);
  const zeros = await zerosOf(stored, module, fitting, { codes, grid, groups, scale, rows });
  const index = stored.find(`${module}.weight_g_idx`);
  const order = index && (await groupsOf(stored, index, columns, groups));
  const ordered = order === undefined ? {} : columnOrder(order, grid.columns);
  const divisor = await globalScale(stored, module);
  return {
    rows,
    format: {
      ...{ codes: codes.format, columns, groups, groupColumns: grid.columns },
      zero: zeros ? 'stored' : codes.offset,
      ordered: 'order' in ordered,
    },
    parts: {
      codes: (first, count) => codeRows(stored, codes, first, count),
      scales: async (first, count) => {
        const found = await gridRows(grid, first, count, groups, async (from, many) =>
          stored.scales(scale, await stored.rows(asRows(scale, groups), from, many)),
        );
        return divisor === 1 ? found : found.map(value => value / divisor);
      },
      ...(zeros && { zeros }),
      ...ordered,
    },
  };
}

/** The name of scales in this checkpoint. */
const usualScale = ({ checkpoint }: StoredParts): string =>
  scaleNames.find(part => checkpoint.names.some(name => name.endsWith(`.${part}`))) ?? scaleNames[0];

/** Types of unpacked weights. */
const unpacked: Readonly<Record<string, Pick<Codes, 'format' | 'type' | 'offset' | 'bits'>>> = {
  F8_E4M3: { format: 'e4m3', type: 'float', offset: 0, bits: 8 },
  F8_E5M2: { format: 'e5m2', type: 'float', offset: 0, bits: 8 },
  I8: { format: 'i8', type: 'int', offset: 0, bits: 8 },
};

/** Whether weights of this type are codes. */
export const isCoded = (storage: string): boolean => Object.hasOwn(unpacked, storage);

async function codesOf(
  stored: StoredParts,
  module: string,
  schemes: readonly WeightScheme[],
): Promise<Codes> {
  const packed = stored.find(`${module}.weight_packed`);
  const part = packed ?? stored.require(module, 'weight');
  if (part.shape.length !== 2) {
    throw stored.damaged(part.name, `has shape [${part.shape}]; only matrices can be read`);
  }
  const [rows, wide] = part.shape as [number, number];
  if (!packed) {
    const codes = { part, columns: wide, ...unpacked[part.storage]! };
    // Integers of fewer bits are stored in bytes too.
    const bits = schemes.filter(({ type }) => type === codes.type).map(scheme => scheme.bits);
    return codes.type === 'float' || bits.includes(8) ? codes : { ...codes, bits: bits[0] ?? 8 };
  }
  if (part.storage === 'U8') {
    return { part, format: 'e2m1', type: 'float', bits: 4, columns: 2 * wide, offset: 0 };
  }
  stored.check(part, ['I32'], part.shape);
  const shapePart = stored.require(module, 'weight_shape');
  stored.check(shapePart, ['I64', 'I32'], [2]);
  const shape = await stored.integers(shapePart);
  const columns = shape[1] ?? 0;
  if (shape[0] !== rows) {
    throw stored.damaged(shapePart.name, `holds [${shape}], but ${part.name} has ${rows} rows`);
  }
  const fitting = schemes.find(
    ({ type, bits }) => type === 'int' && Math.ceil((columns * bits) / 32) === wide,
  );
  if (!fitting) {
    throw stored.damaged(
      part.name,
      `has ${wide} words a row, which are not ${columns} numbers of as many bits as config.json says`,
    );
  }
  const { bits } = fitting;
  return {
    ...{ part, columns, bits, type: 'int', offset: 2 ** (bits - 1) },
    format: `u${bits}` as CodeFormat,
  };
}

/** Rows of codes, each padded to whole words. */
async function codeRows(
  stored: StoredParts,
  { part }: Codes,
  first: number,
  count: number,
): Promise<Uint32Array> {
  const bytes = await stored.rows(part, first, count);
  const rowBytes = bytes.byteLength / count;
  if (rowBytes % 4 === 0) return asU32(bytes);
  const words = Math.ceil(rowBytes / 4);
  const padded = new Uint8Array(4 * words * count);
  for (let r = 0; r < count; r++) padded.set(bytes.subarray(r * rowBytes, (r + 1) * rowBytes), 4 * words * r);
  return asU32(padded);
}

/** A grid with its sizes. */
interface Grid {
  readonly rows: number;
  readonly columns: number;
}

/** A scale for each matrix or row may lack dimensions of size 1. */
function fits(shape: readonly number[], [down, across]: readonly [number, number]): boolean {
  const [a = 1, b = 1, ...rest] = shape;
  return rest.length === 0 && a === down && b === across;
}

function gridOf(
  stored: StoredParts,
  { name, shape }: StoredPart,
  schemes: readonly WeightScheme[],
  rows: number,
  columns: number,
): Grid {
  const grids = schemes
    .flatMap(scheme => scheme.grids)
    .map((grid: ScaleGrid) => ({
      rows: Math.min(rows, grid.rows ?? rows),
      columns: Math.min(columns, grid.columns ?? columns),
    }));
  const sizes = (grid: Grid) => [Math.ceil(rows / grid.rows), Math.ceil(columns / grid.columns)] as const;
  const found = grids.find(grid => fits(shape, sizes(grid)));
  if (found) return found;
  const expected = [...new Set(grids.map(grid => `[${sizes(grid)}]`))].join(' or ');
  throw stored.damaged(
    name,
    `has shape [${shape}], and ${expected} is needed for weights [${rows},${columns}]`,
  );
}

/** The part as [rows, groups], where dimensions of size 1 may be missing. */
const asRows = (part: StoredPart, groups: number): StoredPart => {
  const count = part.shape.reduce((product, size) => product * size, 1);
  return { ...part, shape: [count / groups, groups] };
};

/** Values of a grid for each of some rows. */
async function gridRows(
  { rows }: Grid,
  first: number,
  count: number,
  groups: number,
  read: (from: number, many: number) => Promise<Float32Array>,
): Promise<Float32Array> {
  const from = Math.floor(first / rows);
  const many = Math.ceil((first + count) / rows) - from;
  const values = await read(from, many);
  if (rows === 1) return values;
  const out = new Float32Array(count * groups);
  for (let r = 0; r < count; r++) {
    const at = (Math.floor((first + r) / rows) - from) * groups;
    out.set(values.subarray(at, at + groups), r * groups);
  }
  return out;
}

/** Reads what is subtracted from codes; undefined if that is the same for all. */
async function zerosOf(
  stored: StoredParts,
  module: string,
  schemes: readonly WeightScheme[],
  of: { codes: Codes; grid: Grid; groups: number; scale: StoredPart; rows: number },
): Promise<RowParts['zeros']> {
  const { codes, grid, groups, scale, rows } = of;
  const asymmetric = schemes.every(({ symmetric }) => !symmetric);
  const found = stored.find(`${module}.weight_zero_point`);
  if (!asymmetric && (!found || schemes.every(({ symmetric }) => symmetric))) return undefined;
  const part = found ?? stored.require(module, 'weight_zero_point');
  if (codes.type === 'float') throw stored.damaged(part.name, 'belongs to no layout of floats that is known');
  if (part.storage !== 'I32') {
    stored.check(part, ['I8'], scale.shape);
    return (first, count) =>
      gridRows(grid, first, count, groups, async (from, many) => {
        const bytes = await stored.rows(asRows(part, groups), from, many);
        return Float32Array.from(
          new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength),
          value => value + codes.offset,
        );
      });
  }
  // Packed down the rows: a column is a stream.
  const words = Math.ceil((rows * codes.bits) / 32);
  stored.check(part, ['I32'], [words, groups]);
  return async (first, count) => {
    const from = Math.floor((first * codes.bits) / 32);
    const many = Math.ceil(((first + count) * codes.bits) / 32) - from;
    const values = asU32(await stored.rows(part, from, many));
    const column = new Uint32Array(many + 1);
    const out = new Float32Array(count * groups);
    for (let group = 0; group < groups; group++) {
      for (let word = 0; word < many; word++) column[word] = values[word * groups + group]!;
      const skipped = first * codes.bits - 32 * from;
      for (let r = 0; r < count; r++) {
        out[r * groups + group] = codeInStream(column, skipped + r * codes.bits, codes.bits);
      }
    }
    return out;
  };
}

/** The group of each column; undefined where none was chosen. */
async function groupsOf(
  stored: StoredParts,
  part: StoredPart,
  columns: number,
  groups: number,
): Promise<number[] | undefined> {
  stored.check(part, ['I32', 'I64'], [columns]);
  const found = await stored.integers(part);
  return found.includes(-1) ? undefined : checkedGroups(stored, part, found, groups);
}

/** @throws RmError CHECKPOINT_CORRUPT for a column that is in none of the groups. */
export function checkedGroups(
  stored: StoredParts,
  { name }: StoredPart,
  found: number[],
  groups: number,
): number[] {
  const bad = found.find(group => group < 0 || group >= groups);
  if (bad === undefined) return found;
  throw stored.damaged(name, `puts a column into group ${bad}, and there are ${groups}`);
}

/** By which all scales of a matrix are divided (NVFP4). */
async function globalScale(stored: StoredParts, module: string): Promise<number> {
  const part = stored.find(`${module}.weight_global_scale`);
  if (!part) return 1;
  stored.check(part, ['F32'], part.shape.length === 0 ? [] : [1]);
  const [value = 1] = stored.scales(part, await stored.checkpoint.read(part.name));
  if (value > 0) return value;
  throw stored.damaged(part.name, `is ${value}, by which scales are divided`);
}
