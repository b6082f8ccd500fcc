import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { rmEngine } from './support.js';

// Commands warn of weights that nothing reads, once each, and reports keep the warning. Takes about 10 s.

const folder = temporaryFolder();
const path = (...parts: string[]) => join(folder.path, ...parts);
const [biased, zero] = [path('biased'), path('zero')];

/** A model with biases in its MLPs that its config.json does not mention. */
async function writeBiased(at: string, bias: number): Promise<void> {
  mkdirSync(at);
  await writeTinyModel(at, {
    config: { mlp_bias: true },
    values: (name, values) => {
      if (name.endsWith('.bias')) values.fill(bias);
    },
  });
  const config = readFileSync(join(at, 'config.json'), 'utf8');
  writeFileSync(join(at, 'config.json'), config.replace('"mlp_bias": true', '"mlp_bias": false'));
}

test.before(async () => {
  await writeBiased(biased, 0.5);
  await writeBiased(zero, -0);
  writeFileSync(path('text.txt'), 'All work and no play makes Jack a dull boy. '.repeat(30));
});

test.after(() => folder[Symbol.dispose]());

const commands: [name: string, args: (model: string) => string[], report?: string][] = [
  ['inspect', model => ['inspect', model]],
  [
    'prune',
    model => [
      'prune',
      model,
      path('pruned'),
      '--remove',
      '2',
      '--method',
      'plain',
      '--eval',
      path('text.txt'),
      '--force',
    ],
    path('pruned', 'report.json'),
  ],
  [
    'eval',
    model => ['eval', model, path('text.txt'), '--report', path('eval'), '--force'],
    path('eval', 'report.json'),
  ],
  [
    'compare',
    model => [
      'compare',
      model,
      '--layers',
      '1',
      '--methods',
      'plain',
      '--eval',
      path('text.txt'),
      '--tokens',
      '256',
      '--no-report',
      '--out',
      path('compared'),
      '--force',
    ],
    path('compared', 'report.json'),
  ],
  ['convert', model => ['convert', model, path('converted.gguf'), '--force']],
];

for (const [name, args, report] of commands) {
  test(`${name}: the warning has a count and an example, and is silent about zeros`, async () => {
    const words = /18 of \d+ tensors are not read \(for example model\.layers\.0\.mlp\.\w+\.bias\)/g;
    const { status, stderr } = await rmEngine(args(biased));
    assert.is(status, 0, stderr);
    assert.is(stderr.match(words)?.length, 1, stderr);
    if (report) assert.match(JSON.parse(readFileSync(report, 'utf8')).warnings.join('\n'), words);
    const quiet = await rmEngine(args(zero));
    assert.is(quiet.status, 0, quiet.stderr);
    assert.not.match(quiet.stderr, 'not read');
  });
}

test.run();
