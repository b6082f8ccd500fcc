import { Device, decodeToF32 } from '../../engine/index.js';
import { logits, Model, openSafetensors } from '../../model/index.js';
import type { CalibrationBatch } from '../../replaceme/calibration/calibrationBatch.js';
import { normals } from '../gpu.js';
import type { writeTinyModel } from '../tinyModel.js';
import { plainBatches, workplace } from './workplace.js';

/** Random token sequences of several lengths. */
export const sequences: readonly number[][] = [40, 7, 64, 23, 51].map((length, seed) =>
  Array.from(normals(length, 100 + seed), value => Math.floor(Math.abs(value) * 1000) % 256),
);

/** A tiny model on a device, its folder, and `sequences` in several batches. */
export async function openTiny(change: Parameters<typeof writeTinyModel>[1] = {}) {
  const place = await workplace(change);
  const device = await Device.open();
  const model = await Model.load(device, place.model);
  const batches: CalibrationBatch[] = plainBatches(sequences, 70);
  return {
    place,
    device,
    model,
    batches,
    async [Symbol.asyncDispose]() {
      model.dispose();
      await device.close();
      place[Symbol.dispose]();
    },
  };
}

/** A checkpoint tensor as f64. */
export async function readTensor(folder: string, name: string): Promise<Float64Array> {
  const checkpoint = await openSafetensors(folder);
  try {
    return Float64Array.from(decodeToF32(await checkpoint.read(name), checkpoint.info(name).dtype));
  } finally {
    await checkpoint.close();
  }
}

/** Rows of an [n, columns] array. */
export const rowsOf = (values: Float32Array, columns: number): number[][] =>
  Array.from({ length: values.length / columns }, (_, t) =>
    Array.from(values.subarray(t * columns, (t + 1) * columns)),
  );

/** By sequence: states[d][t] is the input of layer d (the output of layer d - 1) at token t. */
export async function hostStates(model: Model, ids: readonly number[]) {
  const { hidden } = await logits(model, ids, { taps: true });
  const rows = (values: Float32Array) => rowsOf(values, model.arch.hidden);
  return { states: [hidden!.embedding, ...hidden!.layers].map(rows), final: rows(hidden!.finalNorm) };
}

export const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, value, i) => sum + value * b[i]!, 0);

export const norm = (a: readonly number[]): number => Math.sqrt(dot(a, a));

export const cosineOf = (a: readonly number[], b: readonly number[]): number =>
  dot(a, b) / (norm(a) * norm(b));

export const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
