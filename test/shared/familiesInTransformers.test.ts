import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { logits, Model } from '../../model/index.js';
import { methods } from '../../replaceme/methods/index.js';
import { familyData, familyNames } from '../familyData.js';
import { prunedFamily } from '../replaceme/prunedFamily.js';
import { saySkipped, temporaryFolder } from '../support.js';

const { RM_PYTHON: python } = process.env;
const script = join(
  dirname(fileURLToPath(import.meta.url)),
  ...['..', '..', '..', 'test', 'python', 'check_families.py'],
);

if (!python) {
  saySkipped('pruned models of all families in transformers: needs RM_PYTHON');
} else {
  test('pruned models of all families load in transformers with the same logits', async () => {
    using folder = temporaryFolder();
    await using device = await Device.open();
    const paths: string[] = [];
    for (const family of familyNames) {
      const golden = await familyData(family);
      await using model = await Model.load(device, golden.folder);
      const repair = ['replaceme-ls', 'replaceme-diagonal'].find(
        name => !methods.find(method => method.name === name)!.refusal?.(model.arch),
      )!;
      for (const method of ['plain', repair, 'laco']) {
        const to = join(folder.path, family, method);
        mkdirSync(to, { recursive: true });
        await prunedFamily(model, golden, method, to);
        await using written = await Model.load(device, to);
        const values = (await logits(written, golden.ids)).logits;
        const { vocab } = model.arch;
        const rows = golden.ids.map((_, i) => [...values.subarray(i * vocab, (i + 1) * vocab)]);
        writeFileSync(join(to, 'expected.json'), JSON.stringify({ ids: golden.ids, logits: rows }));
        paths.push(to);
      }
    }
    const { status, stdout, stderr } = spawnSync(python, [script, ...paths], {
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    });
    assert.is(status, 0, `${stdout}\n${stderr}`);
    console.log(stdout.trim().split('\n').at(-1));
  });
}

test.run();
