import {
  asF32,
  byteSize,
  type Device,
  type DType,
  decodeToF32,
  download,
  encodeFromF32,
  type Recorder,
  Scope,
  seededRandom,
  type Tensor,
  upload,
} from '../../engine/index.js';
import type { FactorTypes, ProductExtents } from '../matmul/matrixTiles.js';
import type { CaseVariant } from './case.js';
import { type CheckedVariant, sameBits } from './checkCase.js';
import { normals } from './data.js';

/** A tensor too large for the host: its elements repeat, so that the host knows each one without holding them. */
export interface Periodic {
  readonly tensor: Tensor;
  /** The element at a flat index, as rounded to the tensor's dtype. */
  at(index: number): number;
}

/** A prime, so that rows differ. */
const PERIOD = 65_521;
/** Periods written at a time; an even number, so that pieces of 16-bit numbers are whole words. */
const PERIODS = 16;
/** Pieces between two waits for the device, which keeps unwritten data in staging memory. */
const PIECES = 8;

/** Fills a tensor, perhaps a view, with normal numbers that repeat after a prime number of them. */
export async function fillPeriodic(
  tensor: Tensor,
  seed: number,
  scale = 1,
): Promise<(index: number) => number> {
  const dtype = tensor.dtype as Exclude<DType, 'u32'>;
  const period = encodeFromF32(
    normals(PERIOD, seed).map(value => scale * value),
    dtype,
  );
  const size = byteSize(dtype);
  const piece = new Uint8Array(PERIODS * period.length);
  for (let i = 0; i < PERIODS; i++) piece.set(period, i * period.length);
  const flat = tensor.reshape([tensor.size]);
  for (let first = 0, pieces = 1; first < tensor.size; first += PERIODS * PERIOD, pieces++) {
    const count = Math.min(PERIODS * PERIOD, tensor.size - first);
    await upload(flat.rows(first, count), piece.subarray(0, count * size));
    if (pieces % PIECES === 0) await tensor.device.recorder.finish();
  }
  const rounded = decodeToF32(period, dtype);
  return index => rounded[index % PERIOD]!;
}

/** A new tensor of the scope, filled by `fillPeriodic`. */
export async function periodicTensor(
  scope: Scope,
  shape: readonly number[],
  dtype: Exclude<DType, 'u32'>,
  seed: number,
  scale = 1,
): Promise<Periodic> {
  const tensor = scope.tensor(shape, dtype);
  return { tensor, at: await fillPeriodic(tensor, seed, scale) };
}

/** An element of the result in f64, and the size of the terms it is summed of: errors are relative to that. */
export interface Expected {
  readonly value: number;
  readonly scale: number;
}

/** A case too large for a reference of its whole result: the host computes 64 sampled elements. */
export interface SampledCase<V extends CaseVariant = CaseVariant> {
  readonly kernel: string;
  readonly name: string;
  readonly flops: number;
  readonly bytes: number;
  /** Largest accepted |element - expected| / scale. */
  readonly tolerance: number;
  /** Of a product [m,k] x [n,k]^T, gated where it has three dtypes. */
  readonly product?: ProductExtents & { readonly types: FactorTypes };
  variants?(device: Device): readonly V[];
  setup(scope: Scope): Promise<PreparedSample<V>>;
}

/** A large case with its tensors on the device. */
export interface PreparedSample<V extends CaseVariant = CaseVariant> {
  run(rec: Recorder, variant?: V): void;
  /** Its last dimension are columns, all others rows. */
  readonly output: Tensor;
  /** The row and column of an element that was computed, for the sample; default: any. */
  place?(row: number, column: number): readonly [row: number, column: number];
  expected(row: number, column: number): Expected;
}

/** Sampled rows, and columns in each. */
const SAMPLED = 8;

/** The first, the last and some between. */
function sampleOf(extent: number, seed: number): number[] {
  const random = seededRandom(seed);
  const between = Array.from({ length: SAMPLED - 2 }, () => Math.floor(random() * extent));
  return [0, extent - 1, ...between];
}

/**
 * Runs a large case twice with each of these variants, and compares 64 elements with the host: the worst
 * |element - expected| / scale is the error.
 *
 * @throws RmError for a failure of the device.
 */
export async function* checkSampledCase(
  device: Device,
  item: SampledCase,
  variants: readonly (CaseVariant | undefined)[] = item.variants?.(device) ?? [undefined],
): AsyncGenerator<CheckedVariant, void, undefined> {
  using scope = new Scope(device);
  const prepared = await item.setup(scope);
  const { columns, rowCount } = prepared.output;
  const output = prepared.output.reshape([rowCount, columns]);
  const sampledRows = sampleOf(rowCount, 1);
  const places = sampledRows.flatMap(row =>
    sampleOf(columns, 2 + row).map(column => prepared.place?.(row, column) ?? ([row, column] as const)),
  );
  const expected = places.map(([row, column]) => prepared.expected(row, column));
  const rows = [...new Set(places.map(([row]) => row))];
  for (const variant of variants) {
    const run = async () => {
      // Else results of another variant would stand for those that this one leaves out.
      device.recorder.clear(output);
      prepared.run(device.recorder, variant);
      const values = new Map<number, Uint8Array>();
      for (const row of rows) values.set(row, await download(output.rows(row, 1)));
      return values;
    };
    const [first, second] = [await run(), await run()];
    let error = 0;
    for (const [i, [row, column]] of places.entries()) {
      const { value, scale } = expected[i]!;
      // Math.max keeps a NaN, which no tolerance accepts.
      error = Math.max(error, Math.abs(asF32(first.get(row)!)[column]! - value) / scale);
    }
    const repeats = rows.every(row => sameBits(first.get(row)!, second.get(row)!));
    yield { variant: variant?.name, error, repeats };
  }
}
