import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatRow } from '../../cli/compare.js';
import { formatMethods, type MethodList } from '../../cli/methods.js';
import {
  bestRows,
  type CompareReport,
  formatComparison,
  type MeasuredRow,
  methods,
  selections,
} from '../../replaceme/index.js';
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
  assert.is(lines[0], 'a.txt, 50 tokens');
  assert.equal(cells[1], ['method', 'removed', 'perplexity', 'KL', 'top-1', 'params', 'fit s']);
  assert.equal(cells[2], ['dense', '0', '12.500', '0.0000', '100.0 %', '5.000 M']);
  assert.equal(cells[3], ['refit', '2', '14.250', '0.1250', '75.0 %', '3.000 M', '2.3']);
  assert.equal(cells[4], ['linear-patch', '2', 'refused']);
  assert.is(lines[5], 'linear-patch, 2 layers: no such matrix');
});

test('a star at the least mean KL of each number of layers; 80 columns hold every method and many digits', () => {
  const row = comparison.rows[0] as unknown as MeasuredRow;
  const files = ['a.txt', 'b.txt'];
  const of = (method: string, layers: number, kl: [number, number]): MeasuredRow => ({
    ...row,
    ...{ method, layers, fitSeconds: 123456.7, parameters: 405_853_388_800 },
    eval: files.map((file, f) => ({ file, ppl: 1.2e9, kl: kl[f]!, top1: 0.5 })),
  });
  const rows = [
    ...[of('plain', 2, [0.1, 0.9]), of('replaceme-orthogonal', 2, [0.3, 0.4])],
    ...[of('plain', 7, [4, 4]), of('refit', 7, [5, 5]), of('replaceme-cosine', 9, [1, 1])],
  ];
  const evaluation = files.map(file => ({ file, sha256: '0', tokens: 50 }));
  const dense = { ...comparison.dense, eval: files.map(file => ({ file, ppl: 1.2e9, kl: 0, top1: 1 })) };
  const table = formatComparison({ ...comparison, dense, rows, evaluation });
  assert.equal(
    [...table.matchAll(/^(\S+) \* +(\d+)/gm)].map(([, method, layers]) => `${method} ${layers}`),
    ['replaceme-orthogonal 2', 'plain 7', 'replaceme-orthogonal 2', 'plain 7'],
  );
  assert.match(table, /^\* the least KL/m);
  assert.ok(Math.max(...table.split('\n').map(line => line.length)) <= 80, table);
  assert.equal(
    bestRows({ rows }).map(({ method }) => method),
    ['replaceme-orthogonal', 'plain', 'replaceme-cosine'],
  );
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
    ['text.txt,', 'method', 'dense', 'plain', 'replaceme-ls', 'plain', 'replaceme-ls', '*', ''],
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

test('a model and a number of layers are enough: the usual methods on unseen text, and the command of the best', async () => {
  const documents = Array.from({ length: 80 }, (_, i) => `Sentence ${i} says that ${i} times 3 is ${3 * i}.`);
  writeFileSync(path('my texts.txt'), documents.join('\n\n'));
  const asked = ['--calib', path('my texts.txt'), '--tokens', '1024', '--sequence-length', '64'];
  const { status, stdout, stderr } = await rmEngine([
    ...['compare', path('model'), '--layers', '1', ...asked, '--no-report'],
  ]);
  assert.is(status, 0, stderr);
  assert.match(stdout, /^my texts\.txt, [\d,]+ tokens\n/);
  for (const method of ['dense', 'plain', 'replaceme-ls', 'refit', 'refit-heal'])
    assert.match(stdout, new RegExp(`^${method} `, 'm'));
  const [, best] = /^(\S+) \* /m.exec(stdout)!;
  const [, command] = /^next: rm-engine (.*)$/m.exec(stderr)!;
  assert.match(command!, ` --method ${best} --layers 1 `);
  // The shell and the program read it back.
  const words = spawnSync('sh', ['-c', `printf '%s\\n' ${command}`], { encoding: 'utf8' })
    .stdout.trim()
    .split('\n');
  assert.ok(words.includes(path('my texts.txt')));
  const dry = await rmEngine([
    ...words.map(word => (word === './pruned' ? path('never') : word)),
    '--dry-run',
    '--json',
  ]);
  assert.is(dry.status, 0, dry.stderr);
  assert.is(JSON.parse(dry.stdout).tokens, 1024);
});

test('wrong lists end before a device is opened', async () => {
  const wrong = async (more: string[], words: RegExp) => {
    const { status, stdout, stderr } = await rmEngine([...args('--adapter', 'no such adapter'), ...more]);
    assert.equal([status, stdout], [stderr.includes('INVALID_ARGUMENT') ? 2 : 1, '']);
    assert.match(stderr, words);
  };
  await wrong(['--methods', 'magic'], /no method 'magic'.*INVALID_ARGUMENT/);
  await wrong(['--layers', '6'], /cannot remove 6 of 6/);
  await wrong(['--eval', path('no-such.txt')], /no-such\.txt: no such file \(DATA_INVALID\)/);
  const usage = await rmEngine(['compare', path('model'), '--layers', '0']);
  assert.is(usage.status, 2);
  assert.match(usage.stderr, /Give a whole number of 1 or more/);
});

test.run();
