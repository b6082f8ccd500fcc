import { downloadF32 } from '../../engine/index.js';
import type { CalibrationBatch } from '../../replaceme/calibration/calibrationBatch.js';
import type { FitPass } from '../../replaceme/fits/fitPass.js';
import { tinyConfig } from '../tinyModel.js';

/** Of the tiny model. */
export const HIDDEN = tinyConfig.hidden_size;

/** Sequences of 20 to 60 tokens for the tiny model, in batches whose tokens count 1.5 or 0.5. */
export function weightedBatches(tokens: number): CalibrationBatch[] {
  const batches: CalibrationBatch[] = [];
  for (let left = tokens, s = 0; left > 0; s++) {
    const length = Math.min(left, 20 + ((s * 17) % 41));
    const ids = Array.from({ length }, (_, t) => (s * 31 + t * (s + 3)) % 260);
    batches.push({ sequences: [ids], half: 0, weight: s % 2 ? 0.5 : 1.5 });
    left -= length;
  }
  return batches;
}

/** M, Y, L_j and the weight of a token, in f64. */
export interface FitRow {
  readonly m: Float64Array;
  readonly y: Float64Array;
  readonly target: Float64Array;
  readonly weight: number;
}

export type Rows = readonly FitRow[];

/** All tokens of a pass over the tiny model. */
export async function rowsOf(pass: FitPass): Promise<FitRow[]> {
  const rows: FitRow[] = [];
  await pass.forEach(async ({ mlpOutput, postAttention, target }, { weight }) => {
    const [m, y, l] = [
      await downloadF32(mlpOutput),
      await downloadF32(postAttention),
      await downloadF32(target),
    ];
    for (let at = 0; at < m.length; at += HIDDEN) {
      const row = (values: Float32Array) => Float64Array.from(values.subarray(at, at + HIDDEN));
      rows.push({ m: row(m), y: row(y), target: row(l), weight });
    }
  });
  return rows;
}

export const dot = (a: Float64Array, b: Float64Array): number =>
  a.reduce((sum, value, i) => sum + value * b[i]!, 0);
