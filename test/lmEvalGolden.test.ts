import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../engine/index.js';
import { shippedPath } from '../model/files/shippedPath.js';
import { builtInTasks, prepareTask, readTaskFile } from '../model/tasks/index.js';
import { loadTokenizer } from '../model/text/tokenizer.js';
import { Model } from '../model/transformer/model.js';
import { checkCase, readScores, rowsFolder } from './lmEvalCases.js';

// Made by test/python/lm_eval_scores.py of the demo model.
const golden = readScores(join(rowsFolder, 'golden.json'));
const demo = shippedPath('demo-model');

test('every built-in task is among the golden scores', async () => {
  // Generated answers are compared in lmEvalGenerated.test.ts.
  const tasks = [...golden.cases.map(({ task }) => task), 'gsm8k'];
  assert.equal([...new Set(tasks)].sort(), await builtInTasks());
});

test(`the demo model's answers are those of lm-eval ${golden.versions['lm-eval']}`, async () => {
  await using device = await Device.open();
  using model = await Model.load(device, demo);
  const tokenizer = await loadTokenizer(demo);
  let worst = 0;
  for (const expected of golden.cases) worst = Math.max(worst, await checkCase(model, tokenizer, expected));
  console.log(`largest difference of a log-likelihood: ${worst.toExponential(2)}`);
});

test('rows as parquet give the prompts of those as JSON lines', async () => {
  for (const name of ['arc_easy', 'mmlu', 'c3']) {
    const task = await readTaskFile(shippedPath('tasks', `${name}.yaml`));
    const promptsOf = async (...file: string[]) => {
      const { prompts } = await prepareTask({ task, rows: join(rowsFolder, ...file) });
      return prompts.map(({ requests, choices, gold }) => ({ requests, choices, gold }));
    };
    const parquet = await promptsOf('parquet', `${name}.parquet`);
    assert.equal(parquet, await promptsOf(`${name}.jsonl`), name);
  }
});

test.run();
