import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { generate, logits, Model, openCheckpoint } from '../../model/index.js';
import { methods } from '../../replaceme/methods/index.js';
import { familyData, familyNames } from '../familyData.js';
import { maxAbsError } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { prunedFamily } from './prunedFamily.js';

// One device for all families: they share most kernels, which each new device compiles again.
const device = await Device.open();
test.after(() => device.close());

/** One of every kind of change to weights: none, T folded, the projections refitted, all weights, a factor. */
const tried = [
  'plain',
  'replaceme-ls',
  'replaceme-diagonal',
  'refit',
  'transplant-heal',
  'laco',
  'prune-and-comp',
];

/** Families whose layers have the form of another one that is here: two methods do. */
const alike = [
  ...['exaone4-whole', 'granitemoehybrid', 'idefics3', 'ministral3', 'mistral3', 'olmo3', 'qwen2_5_vl'],
  ...['qwen3_moe', 'qwen3_moe-normed', 'gpt_oss-mxfp4'],
  ...['qwen3_vl', 'seed_oss', 'smolvlm', 'helium', 'ernie4_5', 'glm', 'cohere', 'hunyuan'],
];

/** Tokens out of the cache are the likeliest after what precedes them. */
async function requireCache(model: Model, ids: readonly number[]): Promise<void> {
  const sequence = ids.slice(0, 12);
  for (const token of await generate(model, sequence, { maxTokens: 6 })) {
    const row = (await logits(model, sequence)).logits.slice(-model.arch.vocab);
    assert.ok(Math.max(...row) - row[token]! <= 1e-4, `token ${sequence.length} out of the cache`);
    sequence.push(token);
  }
}

for (const family of familyNames) {
  test(`${family}: pruned by methods of every kind, the written model computes what it should`, async () => {
    const golden = await familyData(family);
    using folder = temporaryFolder();
    await using model = await Model.load(device, golden.folder);
    const names = alike.includes(family) ? ['plain', 'refit'] : tried;
    for (const { name, refusal } of methods.filter(method => names.includes(method.name))) {
      if (refusal?.(model.arch)) continue;
      const to = join(folder.path, name);
      mkdirSync(to);
      const pruned = await prunedFamily(model, golden, name, to);
      await using written = await Model.load(device, to);
      const found = (await logits(written, golden.ids)).logits;
      const difference = maxAbsError(found, pruned.logits);
      assert.ok(difference <= 1e-4, `${name}: written and in memory differ by ${difference}`);
      const { relativeResidual, plainRelativeResidual } = pruned.details as Record<string, number>;
      assert.not(relativeResidual! > plainRelativeResidual!, `${name} is worse than nothing`);
      if (name !== 'plain') continue;
      await requireCache(written, golden.ids);
      const error = maxAbsError(found, golden.keptLogits);
      assert.ok(error <= 1e-4, `without layer 2 logits differ by ${error} from transformers'`);
      const [before, after] = [await openCheckpoint(golden.folder), await openCheckpoint(to)];
      const renamed = before.names
        .filter(tensor => /vision/.test(tensor) || !/\b(layers|h)\.2\./.test(tensor))
        .map(tensor => (/vision/.test(tensor) ? tensor : tensor.replace(/\b(layers|h)\.3\./, '$1.2.')));
      assert.equal([...after.names].sort(), renamed.sort());
      for (const checkpoint of [before, after]) await checkpoint.close();
    }
  });
}

test.run();
