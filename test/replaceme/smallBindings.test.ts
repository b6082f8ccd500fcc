import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { writeSyntheticCheckpoint } from '../../bench/syntheticCheckpoint.js';
import { Device } from '../../engine/index.js';
import { openSafetensors } from '../../model/index.js';
import { prune } from '../../replaceme/index.js';
import { relativeError } from '../gpu.js';
import { readGolden, temporaryFolder } from '../support.js';
import { calibrationText, options } from './workplace.js';

/** As 128 MiB are to a Gram matrix of 14336 columns, an embedding of 128000 rows and W_down in f32. */
const bindingLimit = 700_000;

test('embedding, head, Gram matrix and W_down larger than a binding: the same model', async () => {
  using folder = temporaryFolder();
  const [model, calibration] = [join(folder.path, 'model'), join(folder.path, 'calibration.txt')];
  const dimensions = { layers: 5, hidden: 320, intermediate: 640, heads: 4, kvHeads: 2, vocab: 1200 };
  await writeSyntheticCheckpoint(model, { ...dimensions, tied: false, contextLength: 64 });
  writeFileSync(calibration, calibrationText);
  const checkpoint = await openSafetensors(model);
  assert.ok(checkpoint.info('lm_head.weight').byteLength > bindingLimit);
  await checkpoint.close();
  assert.ok(4 * 640 * 320 > bindingLimit, 'W_down, and what is added to it, in f32');
  for (const method of ['refit-heal', 'replaceme-ls']) {
    const run = async (name: string, more: { bindingLimit?: number }) => {
      const out = join(folder.path, `${method}-${name}`);
      await using device = await Device.open(more);
      const wanted = { window: 2, layers: 1, method, device, evaluationTokens: 256 };
      const sizes = { tokens: 512, sequenceLength: 32, batchTokens: 32 };
      const report = await prune(model, out, options(calibration, { ...wanted, ...sizes }));
      return { report, weights: await readGolden(join(out, 'model.safetensors')) };
    };
    const whole = await run('whole', {});
    const tiled = await run('tiled', { bindingLimit });
    if (method === 'refit-heal')
      assert.type(whole.report.fit.ridge, 'number', 'there is something to compare');
    // Tiles of a sum may round otherwise in f32, and a weight then to its neighbour in bf16.
    for (const [name, { values }] of whole.weights) {
      assert.ok(relativeError(tiled.weights.get(name)!.values, values) < 1e-4, `${method}, ${name}`);
    }
    const [a, b] = [whole, tiled].map(({ report }) => report.evaluation!.models.at(-1)!.eval[0]!.ppl);
    assert.ok(Math.abs(b! / a! - 1) < 1e-4, `${method}: ${a} ${b}`);
  }
});

test.run();
