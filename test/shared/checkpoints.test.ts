import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openSafetensors } from '../../model/checkpoint/safetensors.js';
import { writeSafetensors } from '../../model/checkpoint/safetensorsWriter.js';
import { architectureFromConfig, checkShapes } from '../../model/families/index.js';
import { saySkipped, sharedPath, temporaryFolder } from '../support.js';

const families = sharedPath('golden', 'families');
const readConfig = (family: string, file = 'config.json') =>
  architectureFromConfig(JSON.parse(readFileSync(join(families!, family, file), 'utf8')), file);

if (!families) {
  saySkipped('checkpoints of shared/golden/families: no shared folder');
} else {
  for (const family of ['llama', 'llama-gqa-tied-bf16', 'llama-sharded', 'llama3-rope-scaling']) {
    test(`${family}: shapes are what the config implies, and copying keeps every byte`, async () => {
      using folder = temporaryFolder();
      const arch = readConfig(family);
      const original = await openSafetensors(join(families, family));
      checkShapes(arch, original);
      const sources = original.names.map(name => ({
        ...original.info(name),
        bytes: () => original.read(name),
      }));
      await writeSafetensors(folder.path, sources, { maxShardBytes: 200_000 });
      const copy = await openSafetensors(folder.path);
      checkShapes(arch, copy);
      assert.is(copy.totalBytes, original.totalBytes);
      for (const name of original.names) {
        assert.equal(copy.info(name), original.info(name));
        assert.is(Buffer.compare(await copy.read(name), await original.read(name)), 0, name);
      }
      await copy.close();
      await original.close();
    });
  }

  test('the keys of transformers 4 and 5 give the same architecture', () => {
    const family = 'llama3-rope-scaling';
    assert.equal(readConfig(family, 'config-v4.json'), readConfig(family));
  });
}

test.run();
