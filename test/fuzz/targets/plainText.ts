import { join } from 'node:path';
import { readDocuments } from '../../../model/text/documents.js';
import { asFile, bytesOf } from '../files.js';
import { textMutator } from '../mutators/text.js';
import type { Target } from '../target.js';

/** A .txt file. */
export const target: Target = {
  corpus: async () =>
    ['One text.\nIts second line.\n\nAnother.\n', '\ufeffwith a mark\r\n\r\nand é漢字😀', 'x'].map(bytesOf),
  mutate: textMutator(['\n\n', '\r', '\r\n', ' ', '\u00a0', '\u3000']),
  open: async folder =>
    asFile(join(folder, 'texts.txt'), async path => {
      for await (const _ of readDocuments(path));
    }),
};
