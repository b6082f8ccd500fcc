import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { TuneResult } from '../../bench/tune.js';
import { formatTuning } from '../../cli/tune.js';
import type { Verdicts } from '../../kernels/index.js';
import { shippedPath } from '../../replaceme/index.js';
import { temporaryFolder } from '../support.js';
import { ownCache, rmEngine } from './support.js';

test('the table marks what differs from the built-in choice', () => {
  const table = formatTuning({
    measured: [
      {
        ...{ kernel: 'matmul', shapeClass: 'NT 64x1024x1024 f32 x bf16', builtIn: 'tiled 64x64' },
        ...{ milliseconds: { 'tiled 64x64': 3, 'tiled 128x64': 2 }, chosen: 'tiled 128x64' },
      },
      {
        ...{ kernel: 'attention', shapeClass: '1 queries, 256 keys', builtIn: 'split keys' },
        ...{ milliseconds: { 'split keys': 0.5 }, chosen: 'split keys' },
      },
    ],
  });
  assert.match(table, /^matmul +NT 64x1024x1024 f32 x bf16 +\* tiled 128x64 +2\.00 +3\.00 +1\.50$/m);
  assert.match(table, /^attention +1 queries, 256 keys +split keys +0\.500 +0\.500 +1\.00$/m);
});

test('tune keeps its choice; other commands use it, and work without it when it is damaged', async () => {
  using folder = temporaryFolder();
  const env = ownCache(folder.path);
  const caches = join(folder.path, 'rm-engine');
  const tunings = () =>
    (existsSync(caches) ? readdirSync(caches) : [])
      .filter(name => name.startsWith('tuning'))
      .map(name => join(caches, name));
  const generate = () =>
    rmEngine(['generate', shippedPath('demo-model'), 'The', '--max-tokens', '2', '--verbose'], { env });

  const dry = await rmEngine(['tune', '--seconds', '1', '--dry-run', '--json', '--quiet'], { env });
  assert.is(dry.status, 0, dry.stderr);
  const { tuning, measured, path } = JSON.parse(dry.stdout) as TuneResult & { path: string | null };
  assert.is(path, null);
  assert.ok(measured.length > 0);
  const better = measured.filter(({ chosen, builtIn }) => chosen !== builtIn);
  assert.is(Object.values(tuning).flatMap(classes => Object.keys(classes)).length, better.length);
  assert.not(tunings().length, 'a dry run keeps nothing');

  const tuned = await rmEngine(['tune', '--seconds', '1'], { env });
  assert.is(tuned.status, 0, tuned.stderr);
  const file = /^stored in (.*)$/m.exec(tuned.stderr)![1]!;
  assert.match((await generate()).stderr, /kernel variants from rm-engine tune: \d+ choices differ/);

  assert.equal(tunings(), [file]);
  const stored = JSON.parse(readFileSync(file, 'utf8')) as object;
  writeFileSync(file, JSON.stringify({ ...stored, value: { matmul: 3 } }));
  const result = await generate();
  assert.is(result.status, 0, result.stderr);
  assert.match(result.stderr, /is damaged and is ignored: .*"sha256"; measure again with: rm-engine tune/);
});

test('a wrong kernel variant is found, dropped with a warning, and remembered; the result is right', async () => {
  using folder = temporaryFolder();
  const env = ownCache(folder.path);
  const caches = join(folder.path, 'rm-engine');
  const generate = (more: Record<string, string> = {}) =>
    rmEngine(['generate', shippedPath('demo-model'), 'The', '--max-tokens', '4'], {
      env: { ...env, ...more },
    });
  const plain = await generate();
  assert.is(plain.status, 0, plain.stderr);
  const [kept] = readdirSync(caches).filter(name => name.startsWith('variants'));
  const file = join(caches, kept!);
  const { right, wrong } = (JSON.parse(readFileSync(file, 'utf8')) as { value: Verdicts }).value;
  assert.equal(wrong, {});
  const matvec = right.find(program => program.startsWith('matmul matvec'))!;
  const variant = matvec.slice(0, matvec.search(/,|:/));
  rmSync(file);
  const report = new RegExp(
    `warning: the kernel variant '${variant}' computes wrong results .*please report it`,
  );
  for (const planted of [{ RM_ENGINE_WRONG_KERNEL: variant }, {}] as Record<string, string>[]) {
    const result = await generate(planted);
    assert.is(result.status, 0, result.stderr);
    assert.match(result.stderr, report);
    assert.is(result.stdout, plain.stdout);
  }
});

test.run();
