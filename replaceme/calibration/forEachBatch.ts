import { type Device, OneAhead, Scope } from '../../engine/index.js';
import type { Batch } from '../../model/index.js';
import { forEachGroup } from '../run/forEachGroup.js';
import type { RunHooks } from '../run/runHooks.js';
import { type CalibrationBatch, openBatch } from './calibrationBatch.js';

/** A calibration batch while a loop visits it. */
export interface BatchVisit {
  readonly index: number;
  readonly batch: CalibrationBatch;
  /** Its token ids and positions on the device, disposed after the visit. */
  readonly opened: Batch;
  /** Owns the visit's temporary tensors, disposed after the visit. */
  readonly scope: Scope;
}

/**
 * Visits calibration batches one after the other, starting at the first that no earlier process has finished. A batch is
 * recorded while the device runs the one before.
 *
 * @param name identifies the loop in the journal and in progress.
 */
export async function forEachBatch(
  device: Device,
  hooks: RunHooks,
  name: string,
  batches: readonly CalibrationBatch[],
  visit: (visit: BatchVisit) => Promise<void> | void,
): Promise<void> {
  const ahead = new OneAhead(device);
  const record = async (batch: CalibrationBatch, index: number) => {
    using scope = new Scope(device);
    using opened = openBatch(device, batch);
    device.profiler?.count('batches');
    await visit({ index, batch, opened, scope });
    await ahead.turn();
  };
  await forEachGroup(hooks, name, batches, ({ sequences }) => sequences, record);
  await ahead.finish();
}
