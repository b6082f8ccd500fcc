import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { toPaths } from '../../cli/options/paths.js';
import { createProgram } from '../../cli/program.js';
import { mapPruneConfig } from '../../cli/prune/configFile.js';
import { type NoPath, userPath } from '../../model/files/userPath.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { ownCache, rmEngine } from './support.js';

// Paths that begin with "~", and what else a shell replaces. Takes about 5 s.

const isWindows = process.platform === 'win32';

test('a leading ~ is what bash makes of it', () => {
  const words = ['~', '~/', '~/a/b', '~/a b', './~', './~/a', 'a/~/b', 'a~', '-', 'ü/~'];
  for (const word of words) {
    const quoted = word.replaceAll(' ', '\\ ');
    const { stdout, status } = spawnSync('bash', ['-c', `printf %s ${quoted}`], {
      encoding: 'utf8',
      env: { ...process.env, HOME: homedir() },
    });
    if (status !== 0 || isWindows) return;
    const found = userPath(word);
    assert.is(typeof found, 'string', word);
    assert.is((found as string).replace(/(.)\/$/, '$1'), stdout.replace(/(.)\/$/, '$1'), word);
  }
});

test('what only a shell replaces, and addresses, are refused with what to give', () => {
  const refused = (word: string) => {
    const found = userPath(word);
    assert.is(typeof found, 'object', word);
    return `${(found as NoPath).problem} | ${(found as NoPath).fix}`;
  };
  assert.match(refused('~root/models'), /home folder of a user, .* \| .*\.\/~root\/models for a file/);
  assert.match(refused('~ana'), /home folder of a user/);
  assert.match(refused('$HOME/models'), /has the variable \$HOME/);
  assert.match(refused('/scratch/$USER/out'), /has the variable \$USER/);
  assert.match(
    refused(['/scratch/x-$', '{SLURM_JOB_ID}.gguf'].join('')),
    /has the variable \$\{SLURM_JOB_ID\}/,
  );
  assert.match(refused('file:///data/my%20model'), /is an address.*\| Give the path itself: .*data.my model/);
  assert.match(refused('https://huggingface.co/org/name/tree/main'), /Give the name of the model: org\/name/);
  assert.match(refused('https://example.com/a.jsonl'), /Download the file/);
  assert.match(refused('hf://org/name'), /Give the name of the model: org\/name/);
  for (const word of [
    'org/name@main',
    'a$b/c$',
    'price-$5.txt',
    'C:\\models\\x',
    'it~s',
    'x=y',
    './~root',
    '',
  ]) {
    assert.is(userPath(word), word);
  }
  // A file that is called so is taken as it is.
  using folder = temporaryFolder();
  mkdirSync(join(folder.path, '$HOME'));
  assert.is(userPath(join(folder.path, '$HOME')), join(folder.path, '$HOME'));
});

const refuse = ({ problem }: NoPath): never => {
  throw new Error(problem);
};
const home = (...parts: string[]) => join(homedir(), ...parts);

test('every option and argument that names a file takes ~/', () => {
  const words = new Set<string>();
  const visit = (command: ReturnType<typeof createProgram>) => {
    for (const { flags } of command.options) words.add(/[<[].*$/.exec(flags)?.[0] ?? '');
    for (const argument of command.registeredArguments) words.add(`<${argument.name()}>`);
    for (const child of command.commands) visit(child);
  };
  visit(createProgram(new AbortController().signal));
  const taken = [...words].filter(word => toPaths(word, '~/a', refuse) === home('a'));
  const others = [...words].filter(word => toPaths(word, '~/a', refuse) === '~/a');
  assert.is(taken.length + others.length, words.size);
  // Whoever adds an option decides here which of the two it is.
  const named = (list: string[]) =>
    [...new Set(list.map(word => word.replace(/[<>[\].]/g, '')))].sort().join(' ');
  assert.is(named(taken), 'dir file filejsonl files folder model out prompts task task=rows tracejson');
  assert.not.match(named(others), /file|folder|dir|path|model/);
  assert.is(toPaths('<task=rows>', 'arc_easy=~/arc.jsonl', refuse), `arc_easy=${home('arc.jsonl')}`);
  assert.equal(toPaths('<files...>', ['~/a', 'b,~/c'], refuse), [home('a'), 'b,~/c']);
  assert.is(toPaths('<text>', '~/a', refuse), '~/a');
});

test('a configuration file', async () => {
  const { flags } = mapPruneConfig(
    {
      model_path: '~/m',
      save_path: '~/o',
      calib: ['~/a.txt', 'b.txt'],
      eval: '~/e.txt',
      statistics: '~',
      method: '~/x',
    },
    'c.yaml',
  );
  assert.equal(flags, {
    ...{ model: home('m'), out: home('o'), calib: [home('a.txt'), 'b.txt'], eval: [home('e.txt')] },
    ...{ statistics: homedir(), method: '~/x' },
  });
  const dataset = mapPruneConfig({ dataset: '~/d.jsonl' }, 'c.yaml', path => path === home('d.jsonl'));
  assert.equal(dataset.flags.calib, [home('d.jsonl')]);
  const message = await rejectsWith(() => mapPruneConfig({ out: '$HOME/x' }, 'c.yaml'), 'CONFIG_INVALID');
  assert.match(message, /^c\.yaml: "out": '\$HOME\/x' has the variable \$HOME/);
});

test('the command line: ~/ is the home folder, and nothing is called ~', async () => {
  using folder = temporaryFolder();
  const model = join(folder.path, 'my model');
  mkdirSync(model);
  await writeTinyModel(model);
  const env = { ...ownCache(join(folder.path, 'cache')), HOME: folder.path, USERPROFILE: folder.path };
  const config = join(folder.path, 'prune.yaml');
  writeFileSync(config, 'model: ~/my model\nout: ~/pruned\nremove: 2\nmethod: plain\nreport: none\n');
  const pruned = await rmEngine(['prune', '--config', '~/prune.yaml'], { env });
  assert.is(pruned.status, 0, pruned.stderr);
  assert.ok(existsSync(join(folder.path, 'pruned', 'config.json')));
  writeFileSync(join(folder.path, 'ids.json'), '[1, 2, 3]');
  const args = ['logits', '~/pruned', '--ids=~/ids.json', '--out=~/o.safetensors', '--json'];
  const logits = await rmEngine(args, { env });
  assert.is(logits.status, 0, logits.stderr);
  assert.ok(existsSync(join(folder.path, 'o.safetensors')));
  assert.not.ok(existsSync('~'), 'a folder called ~');
  const refused = await rmEngine(['inspect', '~root/model', '--json'], { env });
  assert.is(refused.status, 2);
  assert.is(JSON.parse(refused.stdout).error.code, 'INVALID_ARGUMENT');
});

test.run();
