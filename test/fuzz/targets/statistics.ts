import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Architecture } from '../../../model/index.js';
import { mergeStatistics } from '../../../replaceme/statistics/mergeStatistics.js';
import { StatisticsFile } from '../../../replaceme/statistics/statisticsFile.js';
import { asFile, promised } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import { sealedTensorsMutator } from '../mutators/sealed.js';
import type { Target } from '../target.js';

const recipe = { model: 'abc', 'token ids': 'def' };
const arch = { layers: 4, hidden: 2, heads: 1, headDim: 2, intermediate: 4, vocab: 8 } as Architecture;
const dependencies = ['cosine', 1];

async function make(path: string, shard: string): Promise<Uint8Array> {
  const file = await StatisticsFile.open(path);
  file.agree({ ...recipe, shard });
  const matrix = (part: string) => ({ part, shape: [2, 2], bytes: new Uint8Array(16) });
  await file.putMatrices('ls 1..3 even', ['G hi', 'G lo', 'C hi', 'C lo'].map(matrix), {
    tokens: 12,
    targetSquares: 0.5,
  });
  await file.putDistances('cosine', 1, { sums: [1, 2, 3], rows: 12 });
  await file.choice(dependencies, async () => ({
    windows: [{ layer: 1, count: 1 }],
    by: 'cosine',
    distances: [0.1, 0.2],
  }));
  return new Uint8Array(readFileSync(path));
}

const words = [
  ...['recipe', 'sums', 'distances', 'choices', 'generated', 'format', 'numbers', 'sha256', 'shard', '1/2'],
  'rows',
];
const mutateJson = jsonMutator(words);

/** A statistics file: everything in it is read, and it is merged with another shard. */
export const target: Target = {
  corpus: async folder => [
    await make(join(folder, 'whole'), '1/1'),
    await make(join(folder, 'first'), '1/2'),
  ],
  mutate: sealedTensorsMutator(mutateJson),
  open: async folder => {
    const second = join(folder, 'second');
    await make(second, '2/2');
    copyFileSync(second, join(folder, 'unchanged'));
    return asFile(join(folder, 'statistics'), async path => {
      const file = await StatisticsFile.read(path);
      for (const name of file.names) {
        for (const part of file.parts(name)) await file.matrix(name, part);
        for (const value of Object.values(file.numbers(name)))
          promised(typeof value === 'number', 'a number of sums');
      }
      for (const { measure, count } of file.measures) {
        promised(
          file.distances(measure, count)!.every(value => typeof value === 'number'),
          'a distance',
        );
      }
      const { windows } = await file.choice(dependencies, async () => ({ windows: [], by: 'request' }));
      promised(
        windows.every(({ layer, count }) => Number.isInteger(layer) && Number.isInteger(count)),
        'a window',
      );
      file.agree(recipe);
      await file.fits(arch);
      await mergeStatistics(join(folder, 'merged'), [path, second], { force: true });
    });
  },
};
