import { logits, type Model, openCheckpoint, openModelSource } from '../../model/index.js';
import { writeModel } from '../../model/writing/writeModel.js';
import { PrunedModel } from '../../replaceme/activations/prunedModel.js';
import type { RepairDetails } from '../../replaceme/fits/repair.js';
import { methodNamed } from '../../replaceme/methods/index.js';
import type { Window } from '../../replaceme/run/window.js';
import type { GoldenModel } from '../familyData.js';
import { plainBatches, repairContext } from './workplace.js';

/** 64 sequences of 24 tokens each that the tiny models know. */
export const familySequences = Array.from({ length: 64 }, (_, s) =>
  Array.from({ length: 24 }, (_, i) => 3 + ((s * 31 + i * i * 7 + ((s * i) % 11) * 5) % 57)),
);

/**
 * Prunes layer 2 (or other windows) of a tiny model, writes it into the empty folder `to`, and says what the method found and which logits
 * the pruned model gives in memory.
 */
export async function prunedFamily(
  model: Model,
  family: Pick<GoldenModel, 'folder' | 'ids'>,
  method: string,
  to: string,
  windows: readonly Window[] = [{ layer: 1, count: 1 }],
): Promise<{ details: RepairDetails; logits: Float32Array }> {
  const known = familySequences.map(ids => ids.map(id => id % model.arch.vocab));
  const context = repairContext(model, plainBatches(known, 256), { alpha: 0.1 });
  const { changes, details } = await methodNamed(method).repair(context, windows);
  using pruned = new PrunedModel(model, windows, changes);
  const checkpoint = await openCheckpoint(family.folder);
  try {
    const source = await openModelSource(family.folder);
    const { arch, device } = model;
    const { keep, replacements } = pruned;
    await writeModel({ source, checkpoint, arch, keep, replacements, device }, to);
  } finally {
    await checkpoint.close();
  }
  return { details, logits: (await logits(pruned.model, family.ids)).logits };
}
