import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createProgram } from '../../cli/program.js';
import { temporaryFolder } from '../support.js';
import { rmEngine } from './support.js';

const benches = ['kernels', 'peak', 'prefill', 'decode', 'solve', 'prune', 'startup'];
const commands = [
  ...['prune', 'compare', 'methods', 'profile', 'eval', 'generate', 'chat', 'logits', 'inspect', 'doctor'],
  ...benches.map(name => `bench ${name}`),
  ...['tune', 'completion', 'gpu-check', 'gpu-check run', 'gpu-check compare'],
];

const packageVersion = JSON.parse(
  readFileSync(fileURLToPath(new URL('../../../package.json', import.meta.url)), 'utf8'),
).version;

test('--version, -V and -v alone give the version of package.json', async () => {
  for (const word of ['--version', '-V', '-v']) {
    const { status, stdout, stderr } = await rmEngine([word]);
    assert.equal([status, stdout, stderr], [0, `${packageVersion}\n`, ''], word);
  }
});

test('-v after a command is --verbose', async () => {
  const { stderr } = await rmEngine(['methods', '-v']);
  assert.match(stderr, /^rm-engine [\d.]+, Node /);
  assert.match((await rmEngine(['inspect', 'nowhere', '-v'])).stderr, /RmError: [\s\S]* {4}at /);
});

test('help COMMAND is COMMAND --help', async () => {
  for (const command of [[], ['prune'], ['bench', 'kernels']]) {
    const help = await rmEngine(['help', ...command]);
    assert.equal(help, await rmEngine([...command, '--help']));
    assert.is(help.status, 0);
  }
});

const demo = fileURLToPath(new URL('../../../assets/demo-model', import.meta.url));

test('arguments that only the library can judge exit with 2 as well, with what was meant', async () => {
  const wrongValues: [args: string[], message: RegExp][] = [
    [['prune', demo, 'never', '--layers', '2', '--method', 'refitt'], /Did you mean refit\? Choose one of/],
    [['prune', demo, 'never', '--layers', '2', '--method', 'ReplaceMe_LS'], /Did you mean replaceme-ls\?/],
    [['prune', demo, 'never', '--layers', '2', '--select', 'cosin'], /Did you mean cosine\?/],
    [['prune', demo, 'never', '--layers', '99'], /cannot remove 99 of/],
    [['compare', demo, '--layers', '1', '--methods', 'pain', '--eval', 'x.txt'], /Did you mean plain\?/],
    [['eval', demo, '--tasks', 'hellaswagg=rows.jsonl'], /Did you mean hellaswag\?/],
  ];
  for (const [args, message] of wrongValues) {
    const { status, stderr } = await rmEngine(args);
    assert.match(stderr, /\(INVALID_ARGUMENT\)/);
    assert.match(stderr, message);
    assert.is(status, 2, stderr);
  }
});

test('--help names every command and the exit codes', async () => {
  const { status, stdout, stderr } = await rmEngine(['--help']);
  assert.is(status, 0);
  assert.is(stderr, '');
  for (const command of commands) assert.match(stdout, new RegExp(`^  ${command.split(' ')[0]}\\b`, 'm'));
  assert.match(stdout, /Exit codes: 0 done, 1 failed, 2 wrong command line, 130 interrupted/);
});

for (const command of commands) {
  test(`${command} --help shows examples, within 100 columns`, async () => {
    const { status, stdout, stderr } = await rmEngine([...command.split(' '), '--help']);
    assert.is(status, 0);
    assert.is(stderr, '');
    assert.match(stdout, new RegExp(`Examples:\n  \\$ .*rm-engine ${command}\\b`));
    assert.match(stdout, /--adapter <name>/);
    assert.is(Math.max(...stdout.split('\n').map(line => line.length)) <= 100, true);
  });
}

test('the examples parse', async () => {
  const seen: string[] = [];
  for (const command of commands) {
    const { stdout } = await rmEngine([...command.split(' '), '--help']);
    // Up to the shell's part: a pipe, a file, the end of $(...).
    for (const [, line] of stdout.matchAll(/^ {2}\$ .*?rm-engine (.*?)(?: ?[|<>)].*)?$/gm)) {
      const words = [...line!.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
      const program = createProgram(new AbortController().signal);
      // Parses only: no command does its work.
      const idle = (at: typeof program) => {
        at.action(() => {
          seen.push(line!);
        });
        for (const child of at.commands) if (child.commands.length === 0) idle(child as typeof program);
        for (const child of at.commands) for (const deeper of child.commands) idle(deeper as typeof program);
      };
      idle(program);
      await program.parseAsync(words, { from: 'user' });
      assert.is(seen.at(-1), line, line);
    }
  }
  assert.ok(seen.length >= 15);
});

const wrong: [args: string[], message: RegExp][] = [
  [[], /Usage: rm-engine/],
  [['frobnicate'], /unknown command 'frobnicate'/],
  [['inspect'], /missing required argument 'model'/],
  [['inspect', 'a', 'b'], /too many arguments/],
  [['inspect', 'a', '--colour'], /unknown option '--colour'/],
  [['prnue', 'a', 'b'], /unknown command 'prnue'.*\n.*\n {2}fix: Did you mean prune\? See: rm-engine --help/],
  [
    ['bench', 'kernel'],
    /where: rm-engine bench\n {2}fix: Did you mean kernels\? See: rm-engine bench --help/,
  ],
  [['inspect', 'a', '--jsn'], /Did you mean --json\? See: rm-engine inspect --help/],
  [['inspect', 'a', '--quite'], /Did you mean --quiet\?/],
  [['prune', 'a', 'b', '--sequence_length', '8'], /Did you mean --sequence-length\?/],
  [['prune', 'a', 'b', '--trust-remote-code'], /never runs a model's own code/],
  [['eval', 'a', '--trust_remote_code=True'], /never runs a model's own code/],
  [['prune', 'a', 'b', '--push_to_hub'], /uploads nothing. Upload the finished folder with: hf upload/],
  [['chat', 'a', '--device', 'cuda'], /--adapter/],
  [['help', 'prnue'], /unknown command 'prnue'[\s\S]*Did you mean prune\?/],
  [['help', 'bench', 'kernel'], /where: rm-engine bench\n {2}fix: Did you mean kernels\?/],
  [['methods', '--quiet', '--verbose'], /'--quiet' cannot be used with option '-v, --verbose'/],
  [['chat'], /missing required argument 'model'/],
  [['chat', 'a', '--temperature', 'hot'], /Give a number of 0 or more/],
  [['prune'], /give the model folder/],
  [['prune', 'a'], /give the folder to write/],
  [['prune', 'a', 'b'], /give one of --layers, --ratio/],
  [['prune', 'a', 'b', '--layers', '2', '--ratio', '0.5'], /give one of --layers, --ratio/],
  [
    ['prune', 'a', 'b', '--layers', 'many'],
    /'--layers <n>' argument 'many' is invalid\. Give a whole number/,
  ],
  [['prune', 'a', 'b', '--layers', '0'], /Give a whole number of 1 or more/],
  [['prune', 'a', 'b', '--ratio', '1.5'], /Give a share above 0 and below 1/],
  [['prune', 'a', 'b', '--layers', '2', '--remove', '1'], /give one of --layers, --ratio, --remove/],
  [['prune', 'a', 'b', '--remove', '5..3'], /Give layers counted from 0, such as 12\.\.18/],
  [
    ['prune', 'a', 'b', '--layers', '2', '--heal', 'magic'],
    /Give none, closed-form, o-proj, auto, transform:STEPS/,
  ],
  [['prune', 'a', 'b', '--layers', '2', '--alpha', '-1'], /Give a number of 0 or more/],
  [['eval', 'a'], /nothing to evaluate: give texts, --tasks or --health/],
  [['eval', 'a', 'b', '--tokens', '1'], /Give a whole number of 2 or more/],
  [['generate', 'a', 'b', '--top-p', '2'], /Give a number above 0 and at most 1/],
  [['generate', 'a', 'b', '--system', 'x'], /--system needs --chat/],
  [['logits', 'a'], /required option '--ids <file>' not specified/],
  [['logits', 'a', '--ids', 'i', '--out', 'x.bin'], /--out must end in '\.safetensors'/],
  [['inspect', 'a', '--memory-limit', 'much'], /Give bytes with a unit, such as 600MB/],
  [['bench', 'kernels', '--samples', '1'], /Give a whole number of 5 or more/],
  [['bench', 'kernels', '--filter', 'no such'], /no case contains 'no such'/],
  [
    ['bench', 'decode', '--prompt', '20', '--sequence-length', '21'],
    /--sequence-length must be longer than --prompt/,
  ],
  [['eval', '--profile', 'a', 'b'], /Put --profile after the other arguments/],
  [['generate', 'a', 'b', '--profile', 'trace.txt'], /The trace is a \.json file/],
];

for (const [args, message] of wrong) {
  test(`wrong command line: ${args.join(' ') || '(nothing)'}`, async () => {
    const { status, stdout, stderr } = await rmEngine(args);
    assert.is(status, 2);
    assert.is(stdout, '');
    assert.match(stderr, message);
    if (args.length > 0)
      assert.match(stderr, /^error: .* \(USAGE\)\n {2}where: rm-engine.*\n {2}fix: .*See: .*\n$/);
  });
}

test('a wrong command line with --json is one object on stdout', async () => {
  const { status, stdout } = await rmEngine(['prune', 'a', 'b', '--json']);
  assert.is(status, 2);
  const { error } = JSON.parse(stdout);
  assert.is(error.code, 'USAGE');
  assert.is(
    error.message,
    'give one of --layers, --ratio, --remove, --max-kl, --keep-top1, --target-size and --target-parameters',
  );
});

test('a missing model: three lines and exit code 1; with --json also one object', async () => {
  const plain = await rmEngine(['inspect', 'no/such/model']);
  assert.is(plain.status, 1);
  assert.is(plain.stdout, '');
  assert.match(
    plain.stderr,
    /^error: .*no.such.model: no such file or folder \(CHECKPOINT_MISSING\)\n {2}where: rm-engine inspect\n {2}fix: .+\n$/,
  );
  const json = await rmEngine(['inspect', 'no/such/model', '--json']);
  assert.is(json.status, 1);
  assert.equal(Object.keys(JSON.parse(json.stdout).error), ['code', 'message', 'where', 'fix']);
});

test('the stack of an error only with --verbose or RM_ENGINE_DEBUG', async () => {
  assert.match((await rmEngine(['inspect', 'nowhere', '--verbose'])).stderr, /RmError: [\s\S]* {4}at /);
  const debug = await rmEngine(['inspect', 'nowhere'], { env: { RM_ENGINE_DEBUG: '1' } });
  assert.match(debug.stderr, / {4}at /);
});

test('a configuration file with unknown keys ends before anything is done', async () => {
  using folder = temporaryFolder();
  const config = join(folder.path, 'c.yaml');
  writeFileSync(config, 'layers_to_skip: 2\nfrobnicate: true\n');
  const { status, stdout, stderr } = await rmEngine(['prune', 'a', 'b', '--config', config, '--json']);
  assert.is(status, 1);
  assert.is(JSON.parse(stdout).error.code, 'CONFIG_INVALID');
  assert.match(stderr, /unknown key "frobnicate"/);
});

test.run();
