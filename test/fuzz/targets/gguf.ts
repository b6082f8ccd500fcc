import { join } from 'node:path';
import { openCheckpoint, openTextReader } from '../../../model/index.js';
import { inspectModel } from '../../../model/source/inspectModel.js';
import { asFile, dataFile } from '../files.js';
import { mutateGguf } from '../mutators/gguf.js';
import type { Target } from '../target.js';

/** A GGUF file: architecture, weights, tokenizer and chat template. */
export const target: Target = {
  corpus: async () => [dataFile('gguf', 'tiny.gguf')],
  mutate: mutateGguf,
  open: async folder =>
    asFile(join(folder, 'model.gguf'), async path => {
      await inspectModel(path);
      const checkpoint = await openCheckpoint(path);
      try {
        for (const name of checkpoint.names) await checkpoint.read(name);
      } finally {
        await checkpoint.close();
      }
      const reader = await openTextReader(path);
      using tokenizer = reader.tokenizer;
      await tokenizer.decode(await tokenizer.encode('a few words, 12'));
    }),
};
