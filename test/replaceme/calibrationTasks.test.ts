import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { shippedPath } from '../../model/files/shippedPath.js';
import { faithfulCalibration } from '../../replaceme/calibration/faithfulCalibration.js';
import { readCalibration } from '../../replaceme/calibration/readCalibration.js';
import { readTaskTexts } from '../../replaceme/calibration/taskTexts.js';
import { prune } from '../../replaceme/index.js';
import { rejectsWith } from '../gpu.js';
import { rowsFolder } from '../lmEvalCases.js';
import { asText, characters, chat } from '../model/characters.js';
import { temporaryFolder } from '../support.js';

const folder = temporaryFolder();
test.after(() => folder[Symbol.dispose]());

const rows = (name: string) => join(rowsFolder, `${name}.jsonl`);
const textsOf = async (word: string): Promise<string[]> => {
  const [task] = await readTaskTexts([word]);
  return task!.documents.map(document => ('text' in document ? document.text : 'no text'));
};

test('a row is its prompt with the right answer', async () => {
  const sciq = await textsOf(`sciq=${rows('sciq_train')}`);
  assert.is(sciq.length, 8);
  assert.is(sciq[0], 'Water freezes to ice at 0 °C.\nQuestion: What is frozen water called?\nAnswer: ice');
  assert.is(sciq[2], '\nQuestion: What do we call a scientist who studies rocks?\nAnswer: geologist');
  const [winogrande] = await textsOf(`winogrande=${rows('winogrande_train')}`);
  assert.is(
    winogrande,
    'The shirt dried faster than the coat because the shirt was thin.',
    'the right context',
  );
  const [lambada] = await textsOf(`lambada=${rows('lambada')}`);
  assert.is(lambada, JSON.parse(readFileSync(rows('lambada'), 'utf8').split('\n')[0]!).text);
  const [mmlu] = await textsOf(`mmlu=${rows('mmlu_dev')}`);
  assert.match(
    mmlu!,
    /about abstract algebra\.\n\nWhat is the identity .*\nAnswer: A$/s,
    'with the description',
  );
});

test('tasks stand beside files, as sources of their own', async () => {
  const file = join(folder.path, 'texts.txt');
  writeFileSync(file, 'one text\n\nand another text\n');
  const options = { tokens: 400, sequenceLength: 60, tasks: [`sciq=${rows('sciq_train')}`], weights: [1, 3] };
  const { files, sequences, tokens } = await readCalibration(characters(true), chat, {
    ...options,
    files: [file],
  });
  assert.equal(
    files.map(({ path, weight }) => [path, weight]),
    [
      [file, 1],
      [rows('sciq_train'), 3],
    ],
  );
  assert.is(tokens, 400);
  assert.is(files[0]!.tokens + files[1]!.tokens, 400);
  for (const half of [0, 1]) assert.ok(sequences.some(of => of.source === 1 && of.half === half));

  const alone = await readCalibration(characters(true), chat, {
    ...options,
    sequenceLength: 400,
    weights: undefined,
  });
  assert.equal(
    alone.files.map(({ path }) => path),
    [rows('sciq_train')],
    'in place of the shipped set',
  );
  const rowsOf = asText(alone.sequences.find(({ half }) => half === 0)!.ids);
  assert.match(rowsOf, /called\?\nAnswer: ice\n\n/, 'an empty line between rows');
});

test('faithful takes tasks too, each row a sequence', async () => {
  const { sequences } = await faithfulCalibration(characters(false), chat, {
    ...{ tasks: [`sciq=${rows('sciq_train')}`], tokens: 4000, sequenceLength: 1000 },
  });
  assert.equal(
    sequences.map(({ ids }) => asText(ids)),
    await textsOf(`sciq=${rows('sciq_train')}`),
  );
});

test('a task that is not there is refused', async () => {
  const read = (word: string) => rejectsWith(() => readTaskTexts([word]), 'INVALID_ARGUMENT');
  assert.match(await read(`nothing=${rows('sciq_train')}`), /there is no task "nothing"/);
  assert.match(await read('sciq'), /needs its rows/);
  const weights = { layers: 1, generate: 100, weights: [1] };
  const out = join(folder.path, 'never');
  assert.match(
    await rejectsWith(() => prune(shippedPath('demo-model'), out, weights), 'INVALID_ARGUMENT'),
    /no calibration files/,
  );
});

test('prune calibrates on the rows of a task', async () => {
  const report = await prune(shippedPath('demo-model'), join(folder.path, 'pruned'), {
    ...{
      window: 5,
      layers: 2,
      calibrationTasks: [`sciq=${rows('sciq_train')}`],
      tokens: 300,
      report: 'none',
    },
  });
  assert.equal(
    report.calibration.files.map(({ path, tokens, documents }) => ({ path, tokens, documents })),
    [{ path: rows('sciq_train'), tokens: 300, documents: 8 }],
  );
});

test.run();
