import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, evaluate, loadTokenizer, Model } from '../../index.js';
import { shippedPath } from '../../replaceme/index.js';
import { saySkipped, sharedPath, temporaryFolder } from '../support.js';

// Named by .ci/run: the folder that shared/models/smollm2.py builds, and a Python with torch and transformers.
const { RM_SMOLLM2: smollm2, RM_PYTHON: python } = process.env;
// Without ../shared the demo's text serves to calibrate and to evaluate.
const text = shippedPath('demo-calibration.txt');
const calibration = sharedPath('golden', 'texts', 'chat.jsonl') ?? text;
const golden = sharedPath('golden', 'smollm2', 'tokens.json');
const dist = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  assert.is(status, 0, `${command} ${args.join(' ')}\n${stdout}\n${stderr}`);
  return stdout;
}

/** Sequences of 256 tokens to evaluate on. */
async function sequences(model: string): Promise<Record<'eval_wt2' | 'eval_chat', number[][]>> {
  if (golden) return JSON.parse(readFileSync(golden, 'utf8'));
  const ids = await (await loadTokenizer(model)).encode(readFileSync(text, 'utf8').slice(-20_000));
  const four = Array.from({ length: 4 }, (_, s) => ids.slice(256 * s, 256 * (s + 1)));
  return { eval_wt2: four, eval_chat: four };
}

if (!smollm2 || !python) {
  saySkipped('the pruned SmolLM2 in transformers: needs RM_SMOLLM2 and RM_PYTHON');
} else {
  test('SmolLM2 pruned by 7 layers loads in transformers with the same logits and perplexity', async () => {
    using folder = temporaryFolder();
    const pruned = join(folder.path, 'pruned');
    const cli = (...args: string[]) => run(process.execPath, [join(dist, 'cli', 'main.js'), ...args]);
    const report = JSON.parse(
      cli(
        'prune',
        smollm2,
        pruned,
        '--layers',
        '7',
        '--window',
        '11',
        '--calib',
        calibration,
        '--tokens',
        '2048',
        '--sequence-length',
        '256',
        '--report',
        'none',
        '--json',
      ),
    );
    console.log(
      `${report.summary}; logits after reloading differ by ${report.verification.maxLogitDifference}`,
    );

    const tokens = await sequences(smollm2);
    const ids = join(folder.path, 'ids.json');
    writeFileSync(ids, JSON.stringify(tokens.eval_wt2.slice(0, 2).map(sequence => sequence.slice(0, 64))));
    const logits = join(folder.path, 'logits.safetensors');
    cli('logits', pruned, '--ids', ids, '--out', logits);

    await using device = await Device.open();
    using model = await Model.load(device, pruned);
    const { perplexity } = await evaluate(model, tokens.eval_chat);
    const evaluation = join(folder.path, 'evaluation.json');
    writeFileSync(evaluation, JSON.stringify({ ids: tokens.eval_chat, perplexity }));
    console.log(
      run(python, [join(dist, '..', 'test', 'python', 'check_pruned.py'), pruned, ids, logits, evaluation]),
    );
  });
}

test.run();
