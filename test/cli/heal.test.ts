import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { HealReport } from '../../replaceme/index.js';
import { calibrationText } from '../replaceme/workplace.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { rmEngine } from './support.js';

const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const folder = temporaryFolder();
const path = (name: string) => join(folder.path, name);
test.after(() => folder[Symbol.dispose]());

const run = (out: string, ...more: readonly string[]) => [
  ...['heal', path('pruned'), path(out), '--teacher', path('model'), '--data', path('text.txt')],
  ...['--sequence-length', '64', '--steps', '24', '--batch-tokens', '128', '--micro-batch-tokens', '64'],
  ...['--lr', '1e-3', '--checkpoint-every', '4', '--eval-every', '5', '--json', ...more],
];

test.before(async () => {
  mkdirSync(path('model'));
  await writeTinyModel(path('model'));
  writeFileSync(path('text.txt'), calibrationText);
  const { status, stderr } = await rmEngine([
    ...['prune', path('model'), path('pruned'), '--remove', '3', '--method', 'plain', '--report', 'none'],
  ]);
  assert.is(status, 0, stderr);
});

const healed = async (out: string, ...more: readonly string[]): Promise<HealReport> => {
  const { status, stdout, stderr } = await rmEngine(run(out, ...more));
  assert.is(status, 0, stderr);
  return JSON.parse(stdout) as HealReport;
};

test('a run that was killed goes on with the same losses, bit by bit', async () => {
  const whole = await healed('whole');
  const child = spawn(process.execPath, [main, ...run('killed')], { stdio: 'ignore' });
  const ended = new Promise<NodeJS.Signals | null>(resolve =>
    child.on('close', (_, signal) => resolve(signal)),
  );
  const checkpoint = path('killed.checkpoint.safetensors');
  while (!existsSync(checkpoint) && child.exitCode === null) await sleep(2);
  child.kill('SIGKILL');
  assert.is(await ended, 'SIGKILL');
  assert.not(existsSync(path('killed')));

  const refused = await rmEngine(run('killed'));
  assert.is(refused.status, 1);
  assert.match(refused.stdout, /"OUTPUT_EXISTS"[\s\S]*--resume/);
  const other = await rmEngine(run('killed', '--resume', '--seed', '3'));
  assert.match(other.stdout, /differs from this run in the seed: 0 there, 3 now/);

  const resumed = await healed('killed', '--resume');
  const { resumedAt } = resumed.healing;
  assert.ok(resumedAt! >= 4 && resumedAt! < 24 && resumedAt! % 4 === 0, `taken up after step ${resumedAt}`);
  assert.equal(resumed.healing.steps, whole.healing.steps);
  assert.equal(resumed.healing.heldOut, whole.healing.heldOut);
  assert.equal(resumed.result, whole.result);
  assert.ok(existsSync(path('killed')) && !existsSync(checkpoint));
});

interface LogLine {
  readonly step: number;
  readonly loss?: number;
  readonly heldOut?: { readonly nll: number; readonly kl: number };
}

test('--log has every step and measurement of the report, and nothing of the user is replaced', async () => {
  const log = path('steps.jsonl');
  const { healing } = await healed('logged', '--log', log);
  const lines = readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as LogLine);
  assert.equal(
    lines.filter(({ heldOut }) => !heldOut),
    healing.steps,
  );
  assert.equal(
    lines.flatMap(({ step, heldOut }) => (heldOut ? [{ step, ...heldOut }] : [])),
    healing.heldOut,
  );
  assert.equal(
    lines.map(({ step }) => step),
    lines.map(({ step }) => step).sort((a, b) => a - b),
  );
  const again = await rmEngine(run('logged2', '--log', log));
  assert.match(again.stdout, /"OUTPUT_EXISTS"/);
  writeFileSync(path('notes.txt'), 'mine');
  const mine = await rmEngine(run('logged2', '--log', path('notes.txt'), '--force'));
  assert.match(mine.stdout, /is not a log of rm-engine heal/);
  assert.is(readFileSync(path('notes.txt'), 'utf8'), 'mine');
  const input = await rmEngine(run('logged2', '--log', path('text.txt'), '--force'));
  assert.match(input.stdout, /"OUTPUT_EXISTS"/);
});

test('heal tells its plan, its end in words, and what is wrong', async () => {
  const plan = await rmEngine(run('never', '--dry-run').filter(word => word !== '--json'));
  assert.is(plan.status, 0, plan.stderr);
  assert.match(plan.stdout, /24 steps of 128 tokens: transform of layer 2, objective kl/);
  assert.match(plan.stdout, /device memory\s+about/);
  const said = await rmEngine(run('said').filter(word => word !== '--json'));
  assert.match(said.stdout, /held-out KL\s+\S+ -> \S+ nats/);
  assert.match(said.stderr, /next: rm-engine chat \S*said --against \S*model\n/);
  assert.match(said.stdout, /verified\s+written folder loaded again/);
  const nothing = await rmEngine(['heal', path('pruned'), path('never')]);
  assert.is(nothing.status, 2);
  assert.match(nothing.stderr, /--data/);
  const begun = await rmEngine(run('begun', '--resume', '--steps', '1'));
  assert.match(
    begun.stderr,
    /no checkpoint at .*begun\.checkpoint\.safetensors: beginning with the first step/,
  );
  assert.not(readdirSync(folder.path).includes('never'));
});

test.run();
