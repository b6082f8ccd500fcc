import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { RequestCache, requestKey } from '../../../model/tasks/requestCache.js';
import { asFile, bytesOf, promised } from '../files.js';
import { textMutator } from '../mutators/text.js';
import type { Target } from '../target.js';

const keys = [[1], [2, 3], []].map(continuation => requestKey({ context: [0], continuation }));

/** The answers that `eval` keeps. */
export const target: Target = {
  corpus: async () => [bytesOf(keys.map((key, i) => `${JSON.stringify([key, -1.5 * i, i % 2])}\n`).join(''))],
  mutate: textMutator([...keys, '\n', '[', ']', 'null', 'NaN', '{}', ',']),
  open: async folder => {
    const path = join(folder, 'answers.jsonl');
    return asFile(path, async () => {
      using cache = await RequestCache.open(path);
      for (const key of keys) {
        const answer = cache.get(key);
        promised(answer === undefined || answer.logLikelihood <= 0, 'an answer above 0');
      }
      cache.add([['new', { logLikelihood: -1, isGreedy: false }]]);
      cache.close();
      rmSync(path);
    });
  },
};
