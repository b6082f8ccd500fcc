import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { logits, Model } from '../../model/index.js';
import { methods } from '../../replaceme/methods/index.js';
import { checkpointData, checkpointNames, familyData, familyNames, type GoldenModel } from '../familyData.js';
import { prunedFamily } from '../replaceme/prunedFamily.js';
import { saySkipped, temporaryFolder } from '../support.js';

const { RM_PYTHON: python } = process.env;
const script = join(
  dirname(fileURLToPath(import.meta.url)),
  ...['..', '..', '..', 'test', 'python', 'check_families.py'],
);

function rowsOf(values: Float32Array | Float64Array, { arch: { vocab } }: Model): number[][] {
  return Array.from({ length: values.length / vocab }, (_, i) => [
    ...values.subarray(i * vocab, (i + 1) * vocab),
  ]);
}

/** Prunes a tiny model into the folder `to`, with what transformers is to find there. */
async function writePruned(
  model: Model,
  golden: GoldenModel,
  method: string,
  to: string,
  more: object = {},
): Promise<void> {
  mkdirSync(to, { recursive: true });
  await prunedFamily(model, golden, method, to);
  await using written = await Model.load(model.device, to);
  const rows = rowsOf((await logits(written, golden.ids)).logits, model);
  writeFileSync(join(to, 'expected.json'), JSON.stringify({ ids: golden.ids, logits: rows, ...more }));
}

/** Families with every form of MLP and of norms around it, in which neurons are transplanted too. */
const transplanted = ['llama', 'qwen3', 'phi3', 'granite', 'neox', 'gemma3', 'olmo2'];

function checkInTransformers(paths: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync(python!, [script, ...paths], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  assert.is(status, 0, `${stdout}\n${stderr}`);
  console.log(stdout.trim().split('\n').at(-1));
}

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
      const more = transplanted.includes(family)
        ? ['transplant-heal']
        : model.arch.experts || model.arch.linear.some(Boolean)
          ? ['refit']
          : [];
      for (const method of ['plain', repair, 'laco', ...more]) {
        if (methods.find(({ name }) => name === method)!.refusal?.(model.arch)) continue;
        paths.push(join(folder.path, family, method));
        const image = method === 'plain' && golden.keptImageLogits;
        await writePruned(model, golden, method, paths.at(-1)!, image ? { image: rowsOf(image, model) } : {});
      }
    }
    checkInTransformers(paths);
  });

  test('so do models whose files say two things, and whose config.json only Python reads', async () => {
    using folder = temporaryFolder();
    await using device = await Device.open();
    const paths: string[] = [];
    for (const name of checkpointNames) {
      const golden = await checkpointData(name);
      await using model = await Model.load(device, golden.folder);
      paths.push(join(folder.path, name, 'plain'));
      // Biases of three layers, q_norm, LoRA's pairs, zeros, and a tensor of integers.
      const unexpected = name === 'unread' ? 3 * (1 + 1 + 2 + 1) + 1 : 0;
      await writePruned(model, golden, 'plain', paths.at(-1)!, { unexpected });
    }
    const golden = await checkpointData('tied-copy');
    const from = join(folder.path, 'python');
    cpSync(golden.folder, from, { recursive: true });
    const config = readFileSync(join(from, 'config.json'), 'utf8');
    const fields =
      '{"limits": [0.0, Infinity], "low": -Infinity, "long": 123456789012345678901234567890, "far": 1e400,';
    writeFileSync(join(from, 'config.json'), config.replace('{', fields));
    await using model = await Model.load(device, from);
    paths.push(join(folder.path, 'python-written', 'plain'));
    await writePruned(model, { ...golden, folder: from }, 'plain', paths.at(-1)!, {
      config: { limits: '[0.0, inf]', low: '-inf', long: '123456789012345678901234567890', far: 'inf' },
    });
    checkInTransformers(paths);
  });
}

test.run();
