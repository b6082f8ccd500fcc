import { join } from 'node:path';
import { openCheckpoint } from '../../../model/index.js';
import { asFile, bytesOf, dataFile, smallSafetensors } from '../files.js';
import { joinSafetensors, safetensorsMutator } from '../mutators/safetensors.js';
import type { Target } from '../target.js';

/** model.safetensors: all tensors, as stored and as another number type. */
export const target: Target = {
  corpus: async folder => [
    await smallSafetensors(folder),
    joinSafetensors(bytesOf({ a: { dtype: 'I64', shape: [], data_offsets: [0, 8] } }), new Uint8Array(8)),
    dataFile('healing', 'pruned', 'model.safetensors'),
  ],
  mutate: safetensorsMutator(),
  open: async folder =>
    asFile(join(folder, 'model.safetensors'), async () => {
      for (const dtype of [undefined, 'f16'] as const) {
        const checkpoint = await openCheckpoint(folder, dtype);
        try {
          for (const name of checkpoint.names) await checkpoint.read(name);
        } finally {
          await checkpoint.close();
        }
      }
    }),
};
