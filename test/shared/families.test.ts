import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { generate, logits, Model } from '../../model/index.js';
import { maxAbsError } from '../gpu.js';
import { readGolden, saySkipped, sharedPath } from '../support.js';

const families = sharedPath('golden', 'families');

interface Golden {
  input_ids: number[][];
  greedy_8_after_input: { ids: number[][] };
}

if (!families) {
  saySkipped('golden logits of the families: no shared folder');
} else {
  for (const family of readdirSync(families)) {
    test(`${family}: logits, hidden states and greedy tokens equal transformers'`, async () => {
      const folder = join(families, family);
      const golden = JSON.parse(readFileSync(join(folder, 'golden.json'), 'utf8')) as Golden;
      const tensors = await readGolden(join(folder, 'golden.safetensors'));
      await using device = await Device.open();
      using model = await Model.load(device, folder);
      await logits(model, [1]); // The rotation table stays.
      const before = device.memory.liveBytes;
      for (const [s, ids] of golden.input_ids.entries()) {
        const of = (name: string) => {
          const { values, shape } = tensors.get(name)!;
          const size = values.length / shape[0]!;
          return values.subarray(s * size, (s + 1) * size);
        };
        const result = await logits(model, ids, { taps: true });
        assert.ok(maxAbsError(result.logits, of('logits')) <= 1e-4, 'logits');
        assert.ok(maxAbsError(result.hidden!.embedding, of('embedding')) === 0, 'embedding');
        for (const [i, values] of result.hidden!.layers.entries()) {
          assert.ok(maxAbsError(values, of(`layer.${i}`)) <= 1e-4, `layer ${i}`);
        }
        assert.ok(maxAbsError(result.hidden!.finalNorm, of('final_norm')) <= 1e-4, 'final norm');
        const expected = golden.greedy_8_after_input.ids[s];
        assert.equal(await generate(model, ids, { maxTokens: 8 }), expected, 'greedy');
      }
      assert.is(device.memory.liveBytes, before, 'nothing leaks');
    });
  }
}

test.run();
