import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { saySkipped, temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { rmEngine } from './support.js';

/** Every path has blanks and letters of other alphabets. */
const folder = temporaryFolder();
const place = join(folder.path, 'a b ☃ ü');
const path = (...parts: string[]) => join(place, ...parts);
const [model, small, long] = [path('model'), path('small model'), path('long text.txt')];

test.before(async () => {
  for (const name of [model, small]) mkdirSync(name, { recursive: true });
  await writeTinyModel(model);
  await writeTinyModel(small, { config: { vocab_size: 100 } });
  writeFileSync(long, 'All work and no play. '.repeat(40));
  writeFileSync(path('a.txt'), 'a');
  writeFileSync(path('bad.jsonl'), '{"text":"a"}\n{"text": oops}\n');
  writeFileSync(path('ids.json'), '[1, 2, 900]');
});

test.after(() => folder[Symbol.dispose]());

/** Runs with --json; asserts three lines on stderr, one object on stdout and no new files. */
async function fails(args: string[], code: string, words: RegExp): Promise<void> {
  const before = readdirSync(place);
  const { status, stdout, stderr } = await rmEngine([...args, '--json']);
  assert.is(status, code === 'INVALID_ARGUMENT' ? 2 : 1, stderr);
  const { error } = JSON.parse(stdout);
  assert.is(error.code, code, error.message);
  assert.match(error.message, words);
  assert.ok(error.fix.length > 10);
  // Drops the lines of earlier steps that took long enough to be shown.
  const lines = stderr
    .split('\n')
    .filter(line => !/^(adapter: .*|(\[\d+\/\d+\] )?[a-z][a-z\d ]* {2}.*)$/.test(line));
  assert.match(
    lines.join('\n'),
    new RegExp(`^error: [^\\n]*\\(${code}\\)\\n {2}where: [^\\n]+\\n {2}fix: [^\\n]+\\n$`),
  );
  assert.equal(readdirSync(place), before, 'nothing is left behind');
}

const out = path('pruned');
const cases: [args: string[], code: string, words: RegExp][] = [
  [['eval', model, path('a.txt')], 'DATA_INVALID', /a\.txt: has fewer than two tokens/],
  [['eval', model, path('bad.jsonl')], 'DATA_INVALID', /bad\.jsonl:2: not JSON/],
  [['eval', model, place], 'DATA_INVALID', /is not a file/],
  [['eval', small, long], 'CONFIG_INVALID', /embedding has 100 rows/],
  [['eval', model, long, '--against', small], 'INVALID_ARGUMENT', /vocabularies of 260 and 100/],
  [['generate', model, 'x'.repeat(200)], 'INVALID_ARGUMENT', /200 tokens, but the model's context is 128/],
  [['generate', model, ''], 'INVALID_ARGUMENT', /0 tokens/],
  [['generate', small, 'hello'], 'CONFIG_INVALID', /embedding has 100 rows/],
  [['generate', model, 'hello', '--chat'], 'CONFIG_INVALID', /no chat template/],
  [['generate', model, 'hello', '--memory-limit', '50kB'], 'OUT_OF_MEMORY', /needs/],
  [
    ['logits', model, '--ids', path('ids.json'), '--out', path('o.safetensors')],
    'DATA_INVALID',
    /entry 2 of sequence 0 is 900/,
  ],
  [['prune', model, model, '--layers', '2', '--force'], 'OUTPUT_EXISTS', /is or contains/],
  [['prune', model, place, '--layers', '2'], 'OUTPUT_EXISTS', /is or contains/],
  [['prune', model, join(long, 'x'), '--layers', '2'], 'OUTPUT_FAILED', /part of the path is a file/],
  [['prune', model, out, '--layers', '9'], 'INVALID_ARGUMENT', /cannot remove 9 of 6 layers/],
  [['prune', model, out, '--layers', '2', '--window', '4'], 'INVALID_ARGUMENT', /window 4 with 2 layers/],
  [
    ['prune', model, out, '--layers', '2', '--calib', path('bad.jsonl'), '--dry-run', '--window', '9'],
    'INVALID_ARGUMENT',
    /window 9/,
  ],
  [['prune', small, out, '--layers', '2', '--calib', long], 'CONFIG_INVALID', /embedding has 100 rows/],
  [
    ['prune', model, out, '--layers', '2', '--force', '--statistics', join(out, 's.safetensors')],
    'OUTPUT_EXISTS',
    /is or contains .*s\.safetensors/,
  ],
  [['prune', model, out, '--layers', '2', '--method', 'magic'], 'INVALID_ARGUMENT', /no method 'magic'/],
  [['prune', model, out, '--layers', '2', '--select', 'magic'], 'INVALID_ARGUMENT', /no selection 'magic'/],
  [['prune', model, out, '--remove', '4..6'], 'INVALID_ARGUMENT', /no layer 6 in a model of 6/],
  [['prune', model, out, '--remove', '2', '--window', '1'], 'INVALID_ARGUMENT', /given twice/],
  [
    ['prune', model, out, '--layers', '2', '--windows', '3'],
    'INVALID_ARGUMENT',
    /2 layers cannot be removed in 3/,
  ],
  [
    ['prune', model, out, '--layers', '2', '--faithful', '--mask', '0.1'],
    'INVALID_ARGUMENT',
    /original program has no --mask/,
  ],
  [
    ['prune', model, out, '--layers', '2', '--faithful', '--method', 'refit'],
    'INVALID_ARGUMENT',
    /original program has no method 'refit'/,
  ],
  [
    ['prune', model, out, '--layers', '2', '--calib', long, '--weights', '1', '2'],
    'INVALID_ARGUMENT',
    /2 weights for 1 calibration files/,
  ],
  [
    ['prune', model, out, '--layers', '2', '--calib', long, '--statistics', path('a.txt')],
    'DATA_INVALID',
    /a\.txt: not a complete statistics file/,
  ],
];

for (const [args, code, words] of cases) {
  const name = args.map(arg =>
    arg.length > 60 && !arg.includes('rm-engine') ? '...' : arg.split('☃ ü').at(-1),
  );
  test(`bad input: ${name.join(' ')}`, () => fails(args, code, words));
}

test('eval cuts texts to the context', async () => {
  const { status, stdout } = await rmEngine(['eval', model, long, '--sequence-length', '5000', '--json']);
  assert.is(status, 0);
  const { sequenceLength, files } = JSON.parse(stdout);
  assert.equal([sequenceLength, files[0].tokens], [128, 880]);
});

test('generate says where the context ended the text', async () => {
  const { stdout, stderr } = await rmEngine(['generate', model, 'x'.repeat(126), '--json']);
  assert.match(stderr, "has reached the end of the model's context");
  assert.is(JSON.parse(stdout).stopped, 'context');
});

test('fewer tokens than dimensions: with a ridge, the warning says what it does', async () => {
  const { status, stderr } = await rmEngine([
    ...['prune', model, path('few'), '--layers', '2', '--calib', long],
    ...['--tokens', '20', '--method', 'replaceme-ls', '--alpha', '1', '--window', '0'],
  ]);
  assert.is(status, 0);
  assert.match(
    stderr,
    /^adapter: .*\n.*warning: 20 calibration tokens for 32 dimensions: .*the ridge \(alpha\) decides/s,
  );
});

for (const interruptAfterMs of [0, 200]) {
  test(`Ctrl-C while pruning, after ${interruptAfterMs} ms: exit code 130, nothing left`, async () => {
    writeFileSync(path('many.txt'), 'All work and no play makes Jack a dull boy. '.repeat(5000));
    const before = readdirSync(place);
    const args = ['prune', model, out, '--layers', '2', '--calib', path('many.txt'), '--tokens', '200000'];
    const { status, stdout, stderr } = await rmEngine([...args, '--json'], { interruptAfterMs });
    assert.is(status, 130);
    assert.is(stdout, '');
    assert.match(stderr, /interrupted\n$/);
    assert.not.match(stderr, /\n {4}at /, 'no stack');
    assert.equal(readdirSync(place), before);
  });
}

test('a reader of stdout that goes away ends the work quietly', async () => {
  const args = ['generate', model, 'hello', '--max-tokens', '100'];
  const { status, stderr } = await rmEngine(args, { closeStdoutEarly: true });
  assert.is(status, 0);
  assert.match(stderr, /^adapter: .*\n$/);
});

test('stdout on a full disk: three lines and exit code 1', async () => {
  if (!existsSync('/dev/full') || !statSync('/dev/full').isCharacterDevice()) {
    saySkipped('stdout on a full disk: no /dev/full');
    return;
  }
  const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
  const child = spawn(process.execPath, [main, 'inspect', model], {
    stdio: ['ignore', openSync('/dev/full', 'w'), 'pipe'],
  });
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', text => {
    stderr += text;
  });
  const status = await new Promise(resolve => child.on('close', resolve));
  assert.is(status, 1);
  assert.match(
    stderr,
    /^error: stdout: cannot be written: the disk is full \(OUTPUT_FAILED\)\n {2}where: .+\n {2}fix: .+\n$/,
  );
});

test.run();
