import { join } from 'node:path';
import { readDocuments } from '../../../model/text/documents.js';
import { documents, documentWords } from '../documents.js';
import { asFile, bytesOf } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import type { Target } from '../target.js';

/** A .json file with an array of texts and conversations. */
export const target: Target = {
  corpus: async () => [
    bytesOf(documents),
    bytesOf(JSON.stringify(documents, null, 2)),
    bytesOf([{ text: 'a' }]),
  ],
  mutate: jsonMutator(documentWords),
  open: async folder =>
    asFile(join(folder, 'texts.json'), async path => {
      for await (const _ of readDocuments(path));
    }),
};
