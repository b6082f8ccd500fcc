// What generation_config.json says of sampling, as transformers reads it. Needs no device; costs nothing.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { generationDefaults } from '../../model/generation/generationDefaults.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';

const folder = temporaryFolder();
test.before(() => writeTinyModel(folder.path));
test.after(() => folder[Symbol.dispose]());

function say(config: unknown): void {
  writeFileSync(join(folder.path, 'generation_config.json'), JSON.stringify(config));
}

// GenerationConfig.from_pretrained of transformers 5.23: temperature 1.0 and top_k 50 where a model samples and says
// nothing of them; values of a model that does not sample have no effect, but for repetition_penalty.
test('a model samples only where do_sample says so', async () => {
  say({ do_sample: true, temperature: 0.7, top_p: 0.8, top_k: 20, repetition_penalty: 1.05 });
  assert.equal(await generationDefaults(folder.path), {
    ...{ temperature: 0.7, topK: 20, topP: 0.8, repeatPenalty: 1.05 },
  });
  say({ do_sample: true });
  assert.equal(await generationDefaults(folder.path), { temperature: 1, topK: 50 });
  say({ temperature: 0.7, top_p: 0.8, repetition_penalty: 1.2, eos_token_id: 2 });
  assert.equal(await generationDefaults(folder.path), { repeatPenalty: 1.2 });
  say({ do_sample: true, temperature: null, top_k: 0, repetition_penalty: 1 });
  assert.equal(await generationDefaults(folder.path), { temperature: 1, topK: 0 });
  say({});
  assert.equal(await generationDefaults(folder.path), {});
});

test('what the caller gives counts before the file', async () => {
  say({ do_sample: true, temperature: 0.7, top_p: 0.8, top_k: 20 });
  assert.equal(await generationDefaults(folder.path, { temperature: 0 }), {});
  assert.equal(await generationDefaults(folder.path, { topK: 5 }), { temperature: 0.7, topP: 0.8 });
  say({ top_p: 0.8 });
  assert.equal(await generationDefaults(folder.path, { temperature: 1.5 }), { topP: 0.8 });
});

test('values that no sampler can take are named, unless they are replaced', async () => {
  for (const [field, value] of [
    ...([
      ['temperature', -1],
      ['temperature', 'hot'],
      ['top_p', 0],
      ['top_p', 1.5],
    ] as const),
    ...([
      ['top_k', 2.5],
      ['repetition_penalty', 0],
    ] as const),
  ]) {
    say({ do_sample: true, [field]: value });
    assert.match(
      await rejectsWith(() => generationDefaults(folder.path), 'CONFIG_INVALID'),
      `"${field}" is `,
    );
  }
  say({ do_sample: true, temperature: 'hot' });
  assert.equal(await generationDefaults(folder.path, { temperature: 0 }), {});
});

test.run();
