import { stat } from 'node:fs/promises';
import type { PruneOptions } from '../options/pruneOptions.js';
import { shippedCalibration } from './readCalibration.js';

/** Tokens for a byte of a file, at the most: a token has a byte or more, to which a chat template adds its own; parquet is compressed. */
const perByte = (file: string) => (/\.parquet$/i.test(file) ? 20 : 2);

/** Tokens that the calibration texts of a run can hold at the most. Infinity where the sizes of files do not say it. */
export async function mostTokens({ calibration, calibrationTasks }: PruneOptions): Promise<number> {
  if (calibrationTasks?.length) return Number.POSITIVE_INFINITY;
  let most = 0;
  for (const file of calibration?.length ? calibration : await shippedCalibration(true)) {
    const found = await stat(file).catch(() => undefined);
    if (!found?.isFile()) return Number.POSITIVE_INFINITY;
    most += perByte(file) * found.size;
  }
  return most;
}
