import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createProgram } from '../../cli/program.js';
import { fullName } from '../../cli/terminal/command.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { ownCache, rmEngine } from './support.js';

const folder = temporaryFolder();
const path = (name: string) => join(folder.path, name);
const model = path('model');
const text = path('text.txt');

test.before(async () => {
  mkdirSync(model);
  await writeTinyModel(model);
  writeFileSync(text, 'All work and no play makes Jack a dull boy.\n\n'.repeat(12));
  writeFileSync(path('ids.json'), '[1, 2, 3]');
});

test.after(() => folder[Symbol.dispose]());

/** Commands that do something themselves. */
const leaves = (command: Command): Command[] =>
  command.commands.length > 0 ? command.commands.flatMap(leaves) : [command];

/** A line for every command that can be tried within seconds; the others take the same way through cli/command.ts. */
const tried: Readonly<Record<string, readonly string[]>> = {
  prune: [model, path('out'), '--remove', '2', '--method', 'plain', '--report', 'none', '--force'],
  compare: [
    model,
    '--layers',
    '2',
    '--methods',
    'plain',
    '--calib',
    text,
    '--eval',
    text,
    '--select',
    'cosine',
  ],
  heal: [
    ...[model, path('healed'), '--layer', '2', '--data', text, '--force'],
    ...['--steps', '1', '--batch-tokens', '64', '--checkpoint-every', '0'],
  ],
  'stats gather': [
    ...[model, path('shard'), '--shard', '1/1', '--remove', '2', '--method', 'replaceme-ls'],
    ...['--calib', text, '--force'],
  ],
  // What the line above has made.
  'stats merge': [path('merged'), path('shard'), '--force'],
  'slurm write': [
    ...[model, path('cluster'), '--shards', '1', '--remove', '2', '--method', 'replaceme-ls'],
    ...['--calib', text, '--force'],
  ],
  'slurm status': [path('cluster.slurm')],
  methods: [],
  profile: [model, '--calib', text],
  eval: [model, text],
  generate: [model, 'Hi', '--max-tokens', '3'],
  chat: [model, '--max-tokens', '3'],
  logits: [model, '--ids', path('ids.json'), '--out', path('o.safetensors'), '--force'],
  inspect: [model],
  convert: [model, path('model.gguf'), '--type', 'f32', '--force'],
  'bench startup': [model, '--tokens', '4'],
  'bench predict': ['--gpu', 'h100'],
};
/** Those that measure the machine for long, or examine it. */
const long = [
  'doctor',
  'tune',
  // test/cli/gpuCheck.test.ts tries them.
  ...['run', 'compare'].map(name => `gpu-check ${name}`),
  ...['kernels', 'load', 'peak', 'prefill', 'decode', 'together', 'serve', 'solve', 'prune', 'scale'].map(
    name => `bench ${name}`,
  ),
];
/** What it prints is a script for a shell, an address, or for people. */
const noData = ['completion', 'serve', 'help'];

/** Seconds each on a software adapter: once is enough. */
const slow = ['prune', 'heal', 'stats gather', 'compare', 'profile', 'bench startup'];
const opensNoDevice = ['methods', 'inspect', 'stats merge', 'slurm write', 'slurm status', 'bench predict'];

const program = createProgram(new AbortController().signal);
const commands = leaves(program).map(
  command => [fullName(command).slice('rm-engine '.length), command] as const,
);

test('every command is looked at below', () => {
  assert.equal(commands.map(([name]) => name).sort(), [...Object.keys(tried), ...long, ...noData].sort());
});

for (const [name, command] of commands) {
  test(`${name} takes --json, --quiet and --verbose`, () => {
    const help = command.createHelp();
    const own = help.visibleOptions(command).map(({ long }) => long);
    const global = help.visibleGlobalOptions(command).map(({ long }) => long);
    assert.is(own.includes('--json'), !noData.includes(name));
    for (const flag of ['--quiet', '--verbose', '--adapter', '--memory-limit']) {
      assert.ok(global.includes(flag), flag);
      assert.not.ok(own.includes(flag), `${flag} is of all commands`);
    }
  });
}

const env = ownCache(path('cache'));

for (const [name, args] of Object.entries(tried)) {
  const run = (...flags: string[]) =>
    rmEngine([...name.split(' '), ...args, ...flags], { env, input: 'Hi\n' });

  test(`${name} --json --quiet: one object on stdout, not a word on stderr`, async () => {
    const { status, stdout, stderr } = await run('--json', '--quiet');
    assert.is(status, 0, stderr);
    assert.is(typeof JSON.parse(stdout), 'object');
    assert.not.match(stderr.replace(/^warning: .*\n/gm, ''), /\S/);
  });

  if (slow.includes(name)) continue;
  test(`${name} --verbose: details on stderr; data for people on stdout, colour nowhere`, async () => {
    const { status, stdout, stderr } = await run('--verbose');
    assert.is(status, 0, stderr);
    assert.match(stderr, /^rm-engine [\d.]+\S*, Node v/m);
    assert.match(stderr, /^time: .* s$/m);
    if (!opensNoDevice.includes(name)) assert.match(stderr, /^peak device memory: .* [KM]iB$/m);
    assert.throws(() => JSON.parse(stdout));
    assert.not.ok((stdout + stderr).includes('\u001b'));
  });
}

test.run();
