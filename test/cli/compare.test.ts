import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatRow } from '../../cli/compare.js';
import { formatMethods, type MethodList } from '../../cli/methods.js';
import { type CompareReport, formatComparison, methods, selections } from '../../replaceme/index.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { rmEngine } from './support.js';

const folder = temporaryFolder();
const path = (...parts: string[]) => join(folder.path, ...parts);

test.before(async () => {
  mkdirSync(path('model'));
  await writeTinyModel(path('model'));
  writeFileSync(path('text.txt'), 'All work and no play makes Jack a dull boy. '.repeat(60));
});

test.after(() => folder[Symbol.dispose]());

test('methods lists every method and selection with its paper, without a GPU', async () => {
  // A driver file that is none: whoever asks for an adapter fails.
  const env = { VK_DRIVER_FILES: path('no-driver.json') };
  const { status, stdout, stderr } = await rmEngine(['methods', '--json'], { env });
  assert.equal([status, stderr], [0, '']);
  const list = JSON.parse(stdout) as MethodList;
  assert.equal(
    list.methods.map(({ name, source }) => [name, source]),
    methods.map(({ name, source }) => [name, source]),
  );
  assert.equal(
    list.selections.map(({ name }) => name),
    selections.map(({ name }) => name),
  );
  const plain = await rmEngine(['methods']);
  assert.is(plain.stdout, formatMethods(list));
  for (const { name, summary, source } of [...list.methods, ...list.selections]) {
    assert.match(plain.stdout, new RegExp(`^${name} +`, 'm'));
    assert.ok(plain.stdout.includes(summary) && plain.stdout.includes(source), name);
  }
});

const comparison = {
  version: 'rm-engine 1',
  model: { path: 'in', fingerprint: 'f', layers: 5 },
  adapter: {
    ...{ description: 'llvmpipe', vendor: 'mesa', architecture: '', device: '', kind: 'software' as const },
    ...{ subgroupMinSize: 8, subgroupMaxSize: 8, subgroupMatrixConfigs: [] },
  },
  recipe: { tokens: 100, sequenceLength: 50, batchTokens: 50 },
  calibration: { tokens: 100, sequences: 2, files: [] },
  evaluation: [{ file: 'a.txt', sha256: '0', tokens: 50 }],
  dense: {
    eval: [{ file: 'a.txt', ppl: 12.5, kl: 0, top1: 1 }],
    parameters: 5e6,
    bytes: 1e7,
    tokensPerSecond: 100,
    lossByPosition: [],
  },
  rows: [
    {
      ...{ method: 'refit', layers: 2, parameters: 3e6, bytes: 6e6, tokensPerSecond: 150, fitSeconds: 2.25 },
      windows: [
        [0, 1],
        [2, 1],
      ],
      lossByPosition: [],
      ridgePaths: [],
      selection: { name: 'cosine', by: 'mean cosine distance', seconds: 1 },
      eval: [{ file: 'a.txt', ppl: 14.25, kl: 0.125, top1: 0.75 }],
      details: {},
      warnings: [],
    },
    { method: 'linear-patch', layers: 2, windows: [], eval: [], refused: 'no such matrix' },
  ],
} satisfies Parameters<typeof formatComparison>[0];

test('the table: the dense model first, one line a row, reasons below', () => {
  const lines = formatComparison(comparison).split('\n');
  const cells = lines.map(line => line.split(/ {2,}/));
  assert.is(lines[0]!.indexOf('a.txt'), lines[1]!.indexOf('perplexity'), 'the file stands above its columns');
  assert.equal(cells[1], [
    ...['method', 'removed', 'windows', 'perplexity', 'KL', 'top-1', 'parameters', 'fit s', 'tokens/s'],
  ]);
  assert.equal(cells[2], ['dense', '0', '12.500', '0.0000', '100.0 %', '5.0000 M', '100']);
  assert.equal(cells[3], [
    ...['refit', '2', '(0, 1) (2, 1)', '14.250', '0.1250', '75.0 %', '3.0000 M', '2.3', '150'],
  ]);
  assert.equal(cells[4], ['linear-patch', '2', 'refused']);
  assert.is(lines[5], 'linear-patch, 2 layers: no such matrix');
});

test('a row in a line', () => {
  assert.equal(comparison.rows.map(formatRow), [
    'refit, 2 removed: a.txt perplexity 14.25, KL 0.125',
    'linear-patch, 2 removed: refused: no such matrix',
  ]);
});

const args = (...more: string[]) => [
  ...['compare', path('model'), '--calib', path('text.txt'), '--tokens', '512', '--eval', path('text.txt')],
  ...[
    '--eval-tokens',
    '200',
    '--sequence-length',
    '64',
    '--layers',
    '1',
    '2',
    '--methods',
    'plain,replaceme-ls',
  ],
  ...more,
];

test('compare prints the table, and with --json one object; --out keeps the rows', async () => {
  const first = await rmEngine(args('--out', path('out')));
  assert.is(first.status, 0, first.stderr);
  assert.equal(readdirSync(path('out')).sort(), ['compare.md', 'report.html', 'report.json', 'rows']);
  assert.equal(
    first.stdout.split('\n').map(line => line.split(' ')[0]),
    ['', 'method', 'dense', 'plain', 'replaceme-ls', 'plain', 'replaceme-ls', ''],
  );
  assert.match(first.stderr, /^replaceme-ls, 2 removed: text\.txt perplexity /m);
  const again = await rmEngine(args('--out', path('out'), '--json'));
  const { rows, dense, adapter, recipe } = JSON.parse(again.stdout) as CompareReport;
  assert.equal(
    rows.map(({ method, layers }) => [method, layers]),
    [
      ['plain', 1],
      ['replaceme-ls', 1],
      ['plain', 2],
      ['replaceme-ls', 2],
    ],
  );
  assert.is(dense.eval[0]!.top1, 1);
  assert.is(recipe.tokens, 512);
  assert.ok(adapter.description);
  const other = await rmEngine(args('--out', path('out'), '--batch-tokens', '64', '--json'));
  assert.is(other.status, 1);
  assert.is(JSON.parse(other.stdout).error.code, 'OUTPUT_EXISTS');
  assert.match(other.stderr, /batchTokens was \d+, is now 64/);
});

test('wrong lists end before a device is opened', async () => {
  const wrong = async (more: string[], words: RegExp) => {
    const { status, stdout, stderr } = await rmEngine([...args('--adapter', 'no such adapter'), ...more]);
    assert.equal([status, stdout], [1, '']);
    assert.match(stderr, words);
  };
  await wrong(['--methods', 'magic'], /no method 'magic'.*INVALID_ARGUMENT/);
  await wrong(['--layers', '6'], /cannot remove 6 of 6/);
  await wrong(['--eval', path('no-such.txt')], /no-such\.txt: no such file \(DATA_INVALID\)/);
  const usage = await rmEngine(['compare', path('model'), '--layers', '0']);
  assert.is(usage.status, 2);
  assert.match(usage.stderr, /Give a whole number of 1 or more/);
  const without = await rmEngine(['compare', path('model'), '--layers', '1', '--methods', 'plain']);
  assert.is(without.status, 2);
  assert.match(without.stderr, /required option '--eval <files...>' not specified/);
});

test.run();
