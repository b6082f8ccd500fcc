import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ggufTexts } from '../../../model/gguf/source.js';
import { openCheckpoint, openModelSource, openTextReader } from '../../../model/index.js';
import { inspectModel } from '../../../model/source/inspectModel.js';
import { asFile, dataFile } from '../files.js';
import { mutateGguf } from '../mutators/gguf.js';
import type { Target } from '../target.js';

/** A GGUF file: architecture, weights, the files of a folder that are made from it, and of some the tokenizer. */
export const target: Target = {
  corpus: async () => [dataFile('gguf', 'tiny.gguf')],
  mutate: mutateGguf,
  open: async folder =>
    asFile(join(folder, 'model.gguf'), async path => {
      const source = await openModelSource(path);
      for (const file of ggufTexts) await source.text(file);
      await inspectModel(path);
      const checkpoint = await openCheckpoint(path);
      try {
        for (const name of checkpoint.names) await checkpoint.read(name);
      } finally {
        await checkpoint.close();
      }
      // A tokenizer is a process, which takes as long as a hundred inputs without.
      if ((await stat(path)).size % 32 > 0) return;
      const reader = await openTextReader(path);
      using tokenizer = reader.tokenizer;
      await tokenizer.decode(await tokenizer.encode('a few words, 12'));
    }),
};
