import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { shippedPath } from '../../model/files/shippedPath.js';
import { loadTokenizer } from '../../model/text/tokenizer.js';
import { Model } from '../../model/transformer/model.js';
import { checkCase, readScores } from '../lmEvalCases.js';
import { saySkipped, temporaryFolder } from '../support.js';

// Named by .ci/run: the folder that shared/models/smollm2.py builds, and a Python with lm-eval.
const { RM_SMOLLM2: smollm2, RM_LM_EVAL: python } = process.env;
/** Rows of each task, or of each of its subjects: MMLU alone has 57. The tiny models answer more. */
const ROWS = 1;

if (!smollm2 || !python) {
  saySkipped('SmolLM2 against lm-eval: needs RM_SMOLLM2 and RM_LM_EVAL');
} else {
  test("SmolLM2's answers in all tasks are those of lm-eval", async () => {
    using folder = temporaryFolder();
    const out = join(folder.path, 'scores.json');
    const script = join(shippedPath('..'), 'test', 'python', 'lm_eval_scores.py');
    const args = [script, smollm2, out, '--limit', `${ROWS}`];
    const { status, stdout, stderr } = spawnSync(python, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
    assert.is(status, 0, `${stdout}\n${stderr}`);
    const { versions, limit, cases } = readScores(out);

    await using device = await Device.open();
    using model = await Model.load(device, smollm2);
    const tokenizer = await loadTokenizer(smollm2);
    let worst = 0;
    let choices = 0;
    for (const expected of cases) {
      worst = Math.max(worst, await checkCase(model, tokenizer, expected, limit));
      choices += expected.logLikelihoods.flat().length;
    }
    console.log(
      `lm-eval ${versions['lm-eval']}, transformers ${versions.transformers}: ${choices} log-likelihoods in ` +
        `${cases.length} cases, largest difference ${worst.toExponential(2)}`,
    );
  });
}

test.run();
