// Cases of a user's own: shapes of products that a command names, and what a module of theirs exports.
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Device, listOf, RmError, readForm, reasonOf } from '../engine/index.js';
import { sampledMatmul } from '../kernels/index.js';
import { type TimedCase, timedCase } from './kernels.js';

/** The extents of a product: a [M,K] times the transpose of b [N,K]. */
export interface ProductShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** Products of activations with weights in f32 and in bf16. */
export const productCases = (shapes: readonly ProductShape[]): TimedCase[] =>
  shapes.flatMap(shape =>
    (['f32', 'bf16'] as const).map(b => sampledMatmul({ form: 'NT', ...shape, b }) as TimedCase),
  );

/**
 * The cases that a module exports as `cases` or by default: a list, or a function of the device that returns one.
 *
 * @throws RmError DATA_INVALID where it cannot be imported or exports something else.
 */
export async function casesFrom(path: string, device: Device): Promise<readonly TimedCase[]> {
  const failed = (reason: string, cause?: unknown) =>
    new RmError(
      'DATA_INVALID',
      `${path}: ${reason}`,
      'Export `cases`, a list of { kernel, name, setup(scope) { ...; return { run(rec) { ... } } } }, from a JavaScript module.',
      { cause },
    );
  let found: unknown;
  try {
    const { cases, default: other } = await import(pathToFileURL(resolve(path)).href);
    found = cases ?? other;
    if (typeof found === 'function') found = await found(device);
  } catch (cause) {
    throw failed(`it cannot be used: ${reasonOf(cause)}`, cause);
  }
  return readForm(found, listOf(timedCase, 1), problem => failed(`its cases are wrong: ${problem}`));
}
