import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startHub } from '../model/hubServer.js';
import { saySkipped, temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { rmEngine } from './support.js';

const commit = 'ab'.repeat(20);

/** A Hugging Face cache that holds the tiny model as org/tiny, and a text to evaluate on. */
async function cacheWithTiny(folder: string) {
  const repo = join(folder, 'hub', 'models--org--tiny');
  const snapshot = join(repo, 'snapshots', commit);
  mkdirSync(snapshot, { recursive: true });
  mkdirSync(join(repo, 'refs'));
  await writeTinyModel(snapshot);
  writeFileSync(join(repo, 'refs', 'main'), commit);
  const text = join(folder, 'text.txt');
  writeFileSync(text, 'The quick brown fox jumps over the lazy dog. '.repeat(20));
  return { text, snapshot, env: { HF_HUB_CACHE: join(folder, 'hub') } };
}

test('commands take a name in the Hugging Face cache in place of a folder', async () => {
  using folder = temporaryFolder();
  const { text, snapshot, env } = await cacheWithTiny(folder.path);
  const run = async (...args: string[]) => {
    const result = await rmEngine(args, { env });
    assert.is(result.status, 0, result.stderr);
    return result;
  };
  const inspected = await run('inspect', 'org/tiny', '--json');
  assert.is(JSON.parse(inspected.stdout).layers, 6);
  assert.match(inspected.stderr, `org/tiny: commit ${commit} in the Hugging Face cache`);

  const out = join(folder.path, 'out');
  const words = [
    '--remove',
    '2..3',
    '--method',
    'replaceme-ls',
    '--calib',
    text,
    '--tokens',
    '512',
    '--report',
    'none',
  ];
  await run('prune', 'org/tiny@main', out, ...words);
  assert.match(readFileSync(join(out, 'README.md'), 'utf8'), 'base_model: "org/tiny"\n');
  const report = readFileSync(join(out, 'report.json'), 'utf8');
  assert.is(JSON.parse(report).model.path, 'org/tiny');
  assert.match(JSON.parse(report).repeat.text, 'prune org/tiny@main out --remove');
  assert.not.match(report, folder.path);

  const { stdout } = await run('eval', out, text, '--against', 'org/tiny@abab', '--tokens', '256', '--json');
  assert.ok(JSON.parse(stdout).files[0].kl > 0);
  await run('generate', 'org/tiny', 'a', '--max-tokens', '2');
  const statistics = join(folder.path, 'stats.safetensors');
  await run(
    'stats',
    'org/tiny',
    statistics,
    '--shard',
    '1/1',
    ...words.slice(0, -2),
    '--batch-tokens',
    '256',
  );

  // The output must not replace the cache itself.
  const over = await rmEngine(['prune', 'org/tiny', snapshot, '--layers', '1', '--force'], { env });
  assert.is(over.status, 1);
  assert.match(over.stderr, /OUTPUT_EXISTS|cannot be the output folder/);
});

test('a name that is not in the cache: the command that downloads it', async () => {
  using folder = temporaryFolder();
  const env = { HF_HUB_CACHE: join(folder.path, 'hub') };
  const result = await rmEngine(
    ['prune', 'org/tiny@v2', join(folder.path, 'out'), '--layers', '1', '--json'],
    {
      env,
    },
  );
  assert.is(result.status, 1);
  const { error } = JSON.parse(result.stdout);
  assert.is(error.code, 'CHECKPOINT_MISSING');
  assert.match(error.fix, 'hf download org/tiny --revision v2');
  assert.not(existsSync(join(folder.path, 'out')));
});

test('--download puts the model into the cache first', async () => {
  try {
    import.meta.resolve('@huggingface/hub');
  } catch {
    saySkipped('--download: @huggingface/hub is not installed');
    return;
  }
  using folder = temporaryFolder();
  const model = join(folder.path, 'model');
  mkdirSync(model);
  await writeTinyModel(model);
  const names = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'generation_config.json'];
  const files = [...names, 'model.safetensors'].map(name => [name, readFileSync(join(model, name))] as const);
  const hub = await startHub(new Map(files));
  try {
    const env = { HF_HUB_CACHE: join(folder.path, 'hub'), HF_ENDPOINT: hub.url };
    const first = await rmEngine(['inspect', 'org/name', '--download', '--json'], { env });
    assert.is(first.status, 0, first.stderr);
    assert.is(JSON.parse(first.stdout).layers, 6);
    const requests = hub.requests.length;
    const second = await rmEngine(['inspect', 'org/name', '--download', '--json'], { env });
    assert.is(second.stdout, first.stdout);
    assert.is(hub.requests.length, requests, 'a cached file is not requested again');
    // A folder of that name wins, and a note says so.
    cpSync(model, join(folder.path, 'work', 'org', 'name'), { recursive: true });
    const before = process.cwd();
    process.chdir(join(folder.path, 'work'));
    const local = await rmEngine(['inspect', 'org/name'], { env });
    process.chdir(before);
    assert.match(local.stderr, 'org/name is a path here and is used, not the model of that name');
  } finally {
    await hub.close();
  }
});

test.run();
