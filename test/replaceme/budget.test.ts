/** As many layers as a budget allows, on the demo model; half a minute on two idle cores. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/device.js';
import { evaluate } from '../../model/evaluation/evaluate.js';
import { fileSequences, openTextReader, shippedPath } from '../../model/index.js';
import { Model } from '../../model/transformer/model.js';
import { type PruneOptions, prune } from '../../replaceme/index.js';
import { temporaryFolder } from '../support.js';

const device = await Device.open();
const demo = shippedPath('demo-model');

const request = (more: PruneOptions): PruneOptions => ({
  ...{ device, method: 'replaceme-ls', report: 'none' },
  calibration: [shippedPath('demo-calibration.txt')],
  ...{ tokens: 2048, sequenceLength: 256 },
  ...more,
});

/** KL of a pruned model on a chapter that nothing has seen. */
async function unseenKl(folder: string): Promise<number> {
  using original = await Model.load(device, demo);
  using pruned = await Model.load(device, folder);
  const reader = await openTextReader(demo);
  const { sequences } = await fileSequences(shippedPath('demo-heldout.txt'), reader, {
    ...{ sequenceLength: 256, tokens: 1024 },
  });
  return (await evaluate(pruned, sequences, { against: original })).kl!;
}

test('a budget of KL holds on unseen text within 15 %, and one layer more breaks it', async () => {
  using place = temporaryFolder();
  const out = join(place.path, 'pruned');
  const report = await prune(demo, out, request({ maxKl: 0.1 }));
  const { search } = report.selection;
  assert.equal(search!.budget, { maxKl: 0.1 });
  const removed = 12 - report.output.layers;
  const at = search!.trials.findIndex(({ layers }) => layers === removed);
  assert.ok(search!.trials[at]!.kl <= 0.1);
  assert.is(search!.trials[at + 1]!.layers, removed + 1, 'the next number was tried too');
  assert.ok(search!.trials[at + 1]!.kl > 0.1);
  assert.ok((await unseenKl(out)) <= 1.15 * 0.1);
});

test('a budget that a single layer breaks is refused, and nothing is written', async () => {
  using place = temporaryFolder();
  const out = join(place.path, 'pruned');
  await prune(demo, out, request({ keepTop1: 0.9999, method: 'plain', evaluationTokens: 1024 })).then(
    () => assert.unreachable(),
    (error: Error & { code: string }) => {
      assert.is(error.code, 'INVALID_ARGUMENT');
      assert.match(error.message, /a single layer leaves a top-1 agreement of 0\.9\d\d on held-out text/);
    },
  );
  assert.not(existsSync(out));
});

test.after(() => device.close());

test.run();
