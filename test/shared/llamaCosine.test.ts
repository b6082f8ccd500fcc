import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32 } from '../../engine/index.js';
import { Model } from '../../model/index.js';
import { fitCosine } from '../../replaceme/fits/cosineFit.js';
import { cosineSettings } from '../../replaceme/options/pruneOptions.js';
import { relativeError } from '../gpu.js';
import { openPass, plainBatches } from '../replaceme/workplace.js';
import { readGolden, saySkipped, sharedPath } from '../support.js';

const folder = sharedPath('golden', 'families', 'llama');

type Golden = { i: number; n: number; fit_sequences: number } & Record<
  `cosine eq${7 | 8}, in order`,
  { loss: { train_before: number; train_after: number } }
>;

if (!folder) {
  saySkipped('the cosine fits of the small ReplaceMe case: no shared folder');
} else {
  test('ten steps of Adam on window (1, 2) of the tiny Llama: T and losses of torch', async () => {
    const golden = JSON.parse(readFileSync(join(folder, 'replaceme.json'), 'utf8')) as Golden;
    const tensors = await readGolden(join(folder, 'replaceme.safetensors'));
    const values = (name: string) => tensors.get(name)!.values;
    const sequences = Array.from({ length: 16 }, (_, s) => [...values('ids').subarray(64 * s, 64 * s + 64)]);
    await using device = await Device.open();
    using model = await Model.load(device, folder);
    const batches = plainBatches(sequences, 300);
    using pass = await openPass(model, batches, { layer: golden.i, count: golden.n });
    const { hidden } = model.arch;
    const minusIdentity = (transform: ArrayLike<number>) =>
      Float64Array.from(transform, (value, at) => (at % (hidden + 1) === 0 ? value - 1 : value));
    for (const equation of [7, 8] as const) {
      const fit = await fitCosine(pass, cosineSettings({ equation, shuffle: false }));
      using transform = fit.transform;
      const expected = values(`cosine_eq${equation}.T`);
      const error = relativeError(minusIdentity(await downloadF32(transform)), minusIdentity(expected));
      assert.ok(error < 1e-3, `eq. ${equation}: T - I off by ${error}`);
      const { loss } = golden[`cosine eq${equation}, in order`];
      assert.ok(Math.abs(fit.lossBefore - loss.train_before) < 1e-6, `eq. ${equation}: loss before`);
      assert.ok(Math.abs(fit.lossAfter - loss.train_after) < 1e-6, `eq. ${equation}: loss after`);
    }
  });
}

test.run();
