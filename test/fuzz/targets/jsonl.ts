import { join } from 'node:path';
import { readDocuments } from '../../../model/text/documents.js';
import { documents, documentWords } from '../documents.js';
import { asFile, bytesOf } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import { textMutator } from '../mutators/text.js';
import type { Mutator, Target } from '../target.js';

const mutateText = textMutator([
  '{',
  '}',
  '[',
  ']',
  '\n',
  '\r\n',
  '\ufeff',
  ...documentWords.map(word => `"${word}":`),
]);
const mutateValue = jsonMutator(documentWords);

/** Changes one line as JSON, or the file as a text. */
const mutateLines: Mutator = (input, random) => {
  if (random.chance(0.3)) return mutateText(input, random);
  const lines = new TextDecoder().decode(input).split('\n');
  const at = random.below(lines.length);
  const line = new TextDecoder().decode(mutateValue(bytesOf(lines[at]!), random));
  return bytesOf(lines.with(at, line).join('\n'));
};

/** A .jsonl file of texts and conversations. */
export const target: Target = {
  corpus: async () => [
    bytesOf(documents.map(document => JSON.stringify(document)).join('\n')),
    ...documents.map(bytesOf),
  ],
  mutate: mutateLines,
  open: async folder =>
    asFile(join(folder, 'texts.jsonl'), async path => {
      for await (const _ of readDocuments(path));
    }),
};
