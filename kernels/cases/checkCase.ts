import { asU32, type Device, decodeToF32, download, Scope } from '../../engine/index.js';
import type { CaseVariant, KernelCase } from './case.js';

/** What a variant of a case has come to. */
export interface CheckedVariant {
  /** Its name; undefined for the only one. */
  readonly variant: string | undefined;
  /** |output - expected|_F / scale, to be compared with the case's tolerance; NaN where an output is no number. */
  readonly error: number;
  /** Whether a second run gave the same bits. */
  readonly repeats: boolean;
}

/** |actual - expected|_F / scale in f64; NaN unless every difference is a number. */
function normalisedError(actual: ArrayLike<number>, expected: ArrayLike<number>, scale?: number): number {
  if (actual.length !== expected.length) return Number.NaN;
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return Math.sqrt(difference) / ((scale ?? Math.sqrt(norm)) || 1);
}

/** Whether two downloads are the same to the bit. */
export const sameBits = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/**
 * Runs a case twice with each of these variants, by default all that the device can run, and compares with the host's
 * reference. Stops where the caller stops taking results.
 *
 * @throws RmError for a failure of the device.
 */
export async function* checkCase(
  device: Device,
  item: KernelCase,
  variants: readonly (CaseVariant | undefined)[] = item.variants?.(device) ?? [undefined],
): AsyncGenerator<CheckedVariant, void, undefined> {
  const { recorder } = device;
  using scope = new Scope(device);
  const prepared = await item.setup(scope);
  const { expected, scale } = prepared.reference();
  // Every run starts with the same output: some kernels add to it, and none may depend on an earlier run.
  const start = scope.tensor(prepared.output.shape, prepared.output.dtype);
  recorder.copy(prepared.output, start);
  for (const variant of variants) {
    const output = async () => {
      recorder.copy(start, prepared.output);
      prepared.run(recorder, variant);
      return download(prepared.output);
    };
    const first = await output();
    const { dtype } = prepared.output;
    const actual = dtype === 'u32' ? asU32(first) : decodeToF32(first, dtype);
    const error = normalisedError(actual, expected, scale);
    yield { variant: variant?.name, error, repeats: sameBits(first, await output()) };
  }
}
