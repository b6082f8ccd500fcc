import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RmError } from '../../engine/index.js';
import { checkPruneRequest, type PruneOptions } from '../../replaceme/index.js';
import { type GgufCase, ggufCases, writeGgufCase } from '../ggufFamilies.js';
import { rejectsWith } from '../gpu.js';
import { dataPath, temporaryFolder } from '../support.js';

// What is refused before a device is opened.
const family = (name: string) => dataPath('families', name);

test('a method that cannot mend a family names the option that can', async () => {
  const refused = async (name: string, options: PruneOptions) => {
    const failure = await checkPruneRequest(family(name), undefined, { layers: 1, ...options }).catch(
      (error: unknown) => error,
    );
    assert.instance(failure, RmError);
    const { code, message, fix } = failure as RmError;
    assert.is(code, 'INVALID_ARGUMENT');
    return `${message}. ${fix}`;
  };
  for (const name of ['gemma2', 'gemma3', 'olmo2']) {
    for (const method of ['replaceme-cosine', 'replaceme-orthogonal']) {
      assert.match(
        await refused(name, { method }),
        /normalise the output.* Give `method: refit`, which can repair such layers/,
      );
    }
  }
  for (const method of ['refit-heal', 'replaceme-ls', 'replaceme-diagonal', 'plain']) {
    await checkPruneRequest(family('gemma2'), undefined, { layers: 1, method });
  }
});

test('an encoder of images without images, and with settings of texts', async () => {
  const refused = (options: PruneOptions) =>
    rejectsWith(
      () => checkPruneRequest(dataPath('clip', 'whole'), undefined, { layers: 1, ...options }),
      'INVALID_ARGUMENT',
    );
  assert.match(await refused({}), /no images are given/);
  assert.match(await refused({ calibration: ['a'], generate: 5 }), /without `generate`/);
  const given = { remove: [1], method: 'plain' } as const;
  await checkPruneRequest(dataPath('clip', 'whole'), undefined, given);
});

test('windows for which the model has no room', async () => {
  const refused = (options: PruneOptions) =>
    rejectsWith(() => checkPruneRequest(family('llama'), undefined, options), 'INVALID_ARGUMENT');
  assert.match(await refused({ layers: 2, windows: 9 }), /2 layers cannot be removed in 9 windows/);
  assert.match(
    await refused({ layers: 3, windows: 2, select: 'cosine' }),
    /cannot be divided into 2 windows/,
  );
  for (const select of ['cosine', 'angular']) {
    assert.match(
      await refused({ layers: 3, windows: 3, apart: true, select }),
      /no room for 3 windows of 1 layers/,
    );
  }
});

test('what a GGUF file cannot say of a model, or of what would be left of it', async () => {
  using place = temporaryFolder();
  const out = join(place.path, 'out.gguf');
  let written = 0;
  const check = (given: GgufCase, options: PruneOptions) => {
    const folder = join(place.path, String(written++));
    writeGgufCase(folder, given);
    return checkPruneRequest(folder, out, { method: 'plain', ...options });
  };
  const refused = (given: GgufCase, options: PruneOptions = { layers: 1 }) =>
    rejectsWith(() => check(given, options), 'UNSUPPORTED_FAMILY');
  for (const given of Object.values(ggufCases)) await check(given, { remove: [given.remove ?? 1] });
  assert.match(await refused({ family: 'mistral' }), /which of its layers use a sliding window/);
  assert.match(await refused({ family: 'llama-yarn' }), /its activation/);
  assert.match(await refused({ family: 'gemma2' }), /the scale of its attention scores/);
  assert.match(await refused({ family: 'smollm3' }), /which of its layers/);
  assert.match(await refused({ family: 'falcon' }), /no place for .*bias/);
  assert.match(await refused({ family: 'falcon-sequential' }), /no place for/);
  assert.match(await refused({ family: 'neox' }), /which of its layers rotate, and how/);
  assert.match(await refused({ family: 'neox-sequential' }), /its activation/);
  assert.match(
    await refused({ family: 'neox-sequential', config: { hidden_act: 'gelu' } }),
    /the absence of tensor .*attention.*bias/,
  );
  assert.match(await refused({ family: 'olmo2' }), /no place for .*self_attn.*bias/);
  // Every fourth layer does not rotate: without the second, the third does not.
  const { smollm3, gemma2 } = ggufCases;
  // Every other layer slides.
  assert.match(await refused(gemma2!, { remove: [1] }), /which of its layers use a sliding window/);
  await check(gemma2!, { remove: [1, 2] });
  await check(gemma2!, { layers: 2 });
  assert.match(await refused(gemma2!), /which of its layers use a sliding window/);
  assert.match(await refused(smollm3!, { remove: [1] }), /which of its layers rotate, and how/);
});

test.run();
