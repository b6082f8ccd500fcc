import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { RequestCache, requestKey } from '../../../model/tasks/requestCache.js';
import { asFile, promised } from '../files.js';
import { textMutator } from '../mutators/text.js';
import type { Target } from '../target.js';

const keys = [[1], [2, 3], []].map(continuation => requestKey({ context: [0], continuation }));

/** The answers that `eval` keeps. */
export const target: Target = {
  corpus: async folder => {
    const path = join(folder, 'answers.jsonl');
    using cache = await RequestCache.open(path);
    cache.add(keys.map((key, i) => [key, { logLikelihood: -1.5 * i, isGreedy: i % 2 === 1 }]));
    return [new Uint8Array(readFileSync(path))];
  },
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
