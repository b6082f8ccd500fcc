// The card and the recipe of a pruned model. One device, a tiny model; a few seconds.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parse } from 'yaml';
import { readPruneConfig } from '../../cli/prune/configFile.js';
import { pruneOptions } from '../../cli/prune/options.js';
import { Device } from '../../engine/index.js';
import { modelOrigin } from '../../model/source/modelOrigin.js';
import { type PruneOptions, prune } from '../../replaceme/index.js';
import { saySkipped } from '../support.js';
import { options as small, workplace } from './workplace.js';

const device = await Device.open();
test.after(() => device.close());

const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const read = (...path: string[]) => readFileSync(join(...path), 'utf8');

/** The block that the hub reads. */
const metadataOf = (card: string): Record<string, unknown> =>
  parse(/^---\n([\s\S]*?)\n---\n/.exec(card)![1]!);

const baseCard = `---
license: other
license_name: tiny-license
license_link: LICENSE
language:
- en
- de
pipeline_tag: text-generation
base_model:
- org/tiny
datasets: [org/data]
widget: &a [*a]
---
# Tiny
`;

/** huggingface_hub's ModelCard finds the same, and takes every value for an EvalResult. */
async function readByHub(path: string, metadata: Record<string, unknown>, values: number): Promise<void> {
  const { RM_PYTHON: python } = process.env;
  if (!python) return saySkipped("the card in huggingface_hub's ModelCard: needs RM_PYTHON");
  const script = fileURLToPath(new URL('../../../test/python/check_card.py', import.meta.url));
  const { stdout } = await promisify(execFile)(python, [script, path]);
  const { name, results, ...data } = JSON.parse(stdout);
  assert.equal([name, results.length], ['pruned', values]);
  assert.ok(results.every(({ value }: { value: unknown }) => typeof value === 'number'));
  for (const [key, value] of Object.entries(data)) assert.equal(value, metadata[key], key);
}

test('the card inherits, names the base on the hub, and has the measured values', async () => {
  using place = await workplace();
  writeFileSync(join(place.model, 'README.md'), baseCard.replace('widget: &a [*a]\n', ''));
  writeFileSync(join(place.model, 'LICENSE'), 'do as you like');
  writeFileSync(join(place.model, 'train.py'), 'not of the model');
  mkdirSync(join(place.model, 'runs'));
  writeFileSync(join(place.model, 'runs', 'events'), 'neither');
  const report = await prune(place.model, place.out, small(place.calibration, { device, method: 'refit' }));
  const card = read(place.out, 'README.md');
  const metadata = metadataOf(card);
  assert.equal(
    [metadata.base_model, metadata.license, metadata.license_name, metadata.license_link],
    ['org/tiny', 'other', 'tiny-license', 'LICENSE'],
  );
  assert.equal(metadata.language, ['en', 'de']);
  assert.equal([metadata.library_name, metadata.pipeline_tag], ['transformers', 'text-generation']);
  assert.equal(metadata.tags, ['rm-engine', 'depth-pruning', 'replaceme', 'refit']);
  assert.is(metadata.datasets, undefined);
  const [index] = metadata['model-index'] as {
    name: string;
    results: { dataset: { name: string }; metrics: { type: string; value: number }[] }[];
  }[];
  assert.is(index!.name, 'pruned');
  const scores = report.evaluation!.models.find(({ role }) => role === 'result')!.eval;
  for (const [s, { file, ppl, kl, top1 }] of scores.entries()) {
    const { dataset, metrics } = index!.results[s]!;
    assert.is(dataset.name, file);
    const [a, b, c] = metrics.map(({ value }) => value);
    for (const [found, value] of [
      [a!, ppl],
      [b!, kl],
      [c!, top1],
    ] as const) {
      assert.ok(Math.abs(found - value) <= 1e-5 * Math.abs(value), `${found} for ${value}`);
    }
  }
  assert.match(card, /\| {2}\| layers \| parameters \| weights \| .*perplexity \| KL \| same top token \|/);
  assert.match(card, /^\| before \| 6 \| /m);
  assert.match(card, /^\| as many layers removed, nothing repaired \| 4 \| /m);
  assert.match(card, /^\| this model \| 4 \| /m);
  for (const words of ['pipeline("text-generation"', 'vllm serve', 'llama-cli', 'recipe.yaml'])
    assert.match(card, words);
  const files = readdirSync(place.out);
  for (const name of ['LICENSE', 'README.base.md', 'recipe.yaml', 'tokenizer.json'])
    assert.ok(files.includes(name));
  for (const name of ['train.py', 'runs']) assert.not(files.includes(name));
  assert.not.match(`${card}${read(place.out, 'recipe.yaml')}`, place.path, 'where it was made');
  await readByHub(join(place.out, 'README.md'), metadata, 3 * scores.length);
});

test('the name on the hub: the cache, config.json, the card; nothing that is none', async () => {
  using place = await workplace();
  const say = (card: string, name?: string) => {
    writeFileSync(join(place.model, 'README.md'), card);
    const config = JSON.parse(read(place.model, 'config.json'));
    writeFileSync(join(place.model, 'config.json'), JSON.stringify({ ...config, _name_or_path: name }));
  };
  const idOf = async () => (await modelOrigin(place.model)).id;
  say('no metadata');
  assert.is(await idOf(), undefined);
  say(baseCard.replace('widget: &a [*a]\n', ''));
  assert.is(await idOf(), 'org/tiny');
  say(baseCard.replace('widget: &a [*a]\n', ''), 'org/written');
  assert.is(await idOf(), 'org/written');
  say(baseCard, './checkpoints/7/x');
  assert.equal(await modelOrigin(place.model), { inherited: {} }, 'endless aliases: no metadata');
  say('---\nbase_model: [a/b, c/d]\nlicense: 7\nlanguage: [1]\n---\n');
  assert.equal(await modelOrigin(place.model), { inherited: {} });
  const snapshot = join(place.path, 'hub', 'models--org--cached', 'snapshots', '0123abcd');
  mkdirSync(join(snapshot, '..'), { recursive: true });
  cpSync(place.model, snapshot, { recursive: true });
  assert.is((await modelOrigin(snapshot)).id, 'org/cached');
});

const runs: [name: string, options: PruneOptions][] = [
  ['refit', { method: 'refit', layers: 2, select: 'cosine' }],
  [
    'layers by name, another number type',
    { layers: undefined, remove: [1, 3, 4], dtype: 'bf16', alpha: 0.1 } as PruneOptions,
  ],
  [
    'drawn at random',
    { layers: 1, method: 'replaceme-cosine', cosine: { epochs: 2, learningRate: 1e-3 }, mask: 0.25, seed: 7 },
  ],
  [
    'training',
    { layers: 1, heal: { closedForm: true, gradient: { train: 'transform', steps: 3, batchTokens: 128 } } },
  ],
];
for (const [name, options] of runs) {
  test(`prune --config recipe.yaml makes the same bytes: ${name}`, async () => {
    using place = await workplace();
    // What a recipe has no room for: names that YAML would take for something else.
    const text = join(place.path, 'yes #1: "a".txt');
    renameSync(place.calibration, text);
    const asked = { ...small(text, { device, report: 'none' }), ...options };
    await prune(place.model, place.out, asked);
    const recipe = join(place.out, 'recipe.yaml');
    const { flags, warnings } = await readPruneConfig(recipe);
    assert.equal(warnings, []);
    assert.equal([flags.model, flags.out, flags.calib], ['model', 'pruned', ['yes #1: "a".txt']]);
    const again = join(place.path, 'again');
    const { calibration: _, ...rest } = pruneOptions(flags);
    await prune(place.model, again, { ...rest, calibration: [text], device, report: 'none' });
    for (const file of ['model.safetensors', 'config.json'])
      assert.is(sha256(join(again, file)), sha256(join(place.out, file)), file);
    assert.is(read(again, 'recipe.yaml').replace('"again"', '"pruned"'), read(recipe));
    assert.ok(existsSync(recipe));
  });
}

test.run();
