/** Scripts of slurm with hostile names, run by a real bash with an sbatch that runs each job at once. A few seconds. */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { optionWords } from '../../cli/options/settings.js';
import { clusterJobs, submitScript } from '../../cli/slurm/scripts.js';
import { recipeSettings } from '../../replaceme/options/pruneSettings.js';
import { rmEngine } from '../cli/support.js';
import { hostileNames } from '../hostileNames.js';
import { workplace } from '../replaceme/workplace.js';
import { temporaryFolder } from '../support.js';

/** Prints its words, one behind the other with a NUL, into the file `words` of the folder that it runs in. */
const printer = `#!/bin/bash
printf '%s\\0' "$@" END >> words
`;

/** Takes no other option than those of submit.sh; runs the tasks of an array one after the other. */
const sbatch = `#!/bin/bash
[ "$1" = --parsable ] && [ "$2" = --kill-on-invalid-dep=yes ] || exit 9
file=\${!#}
for task in 1 2; do SLURM_ARRAY_TASK_ID=$task bash "$file" || exit 8; grep -q array= "$file" || break; done
echo 17
`;

function program(path: string, text: string): string {
  writeFileSync(path, text);
  chmodSync(path, 0o755);
  return path;
}

/** The lines that sbatch reads: all that begin with #SBATCH before the first command. */
function readBySbatch(script: string): string[] {
  const lines = script.split('\n');
  const end = lines.findIndex(line => line !== '' && !line.startsWith('#'));
  return lines.slice(0, end).filter(line => line.startsWith('#SBATCH'));
}

const asPath = (name: string) => (name.startsWith('-') ? `./${name}` : name);

test('every name arrives as it is, whatever is in it', () => {
  for (const name of hostileNames) {
    using place = temporaryFolder();
    const [folder, workingFolder] = [join(place.path, `jobs ${name}`), join(place.path, `work ${name}`)];
    for (const path of [folder, workingFolder, join(place.path, 'bin')]) mkdirSync(path);
    program(join(place.path, 'bin', 'sbatch'), sbatch);
    // The program too is in a folder with such a name.
    const start = program(join(place.path, `bin ${name}`), printer);
    const jobs = clusterJobs({
      ...{ folder, workingFolder, program: [start], model: name, out: name, shards: 2, rounds: 1 },
      ...{ settings: ['partition=gpu'], force: true },
      options: optionWords(recipeSettings, { calib: [name, `b${name}`] }),
    });
    for (const { name: job, script } of jobs) {
      writeFileSync(join(folder, `${job}.sbatch`), script);
      assert.not.ok(
        readBySbatch(script).some(line => !/^#SBATCH --[\w=%.,-]+$/.test(line)),
        script,
      );
    }
    writeFileSync(join(folder, 'submit.sh'), submitScript(folder, jobs));
    const PATH = `${join(place.path, 'bin')}${delimiter}${process.env.PATH}`;
    const env = { ...process.env, PATH };
    execFileSync('bash', [join(folder, 'submit.sh')], { cwd: place.path, env });

    const words = readFileSync(join(workingFolder, 'words'), 'utf8').split('\0END\0').slice(0, -1);
    const calib = name.startsWith('-')
      ? [`--calib=${name}`, `--calib=b${name}`]
      : ['--calib', name, `b${name}`];
    const shard = (task: number) => join(folder, `round-1-shard-${task}.safetensors`);
    const merged = join(folder, 'round-1.safetensors');
    const gather = (task: number) => [
      ...['stats', 'gather', asPath(name), shard(task), '--shard', `${task}/2`, ...calib, '--force'],
    ];
    assert.equal(
      words.map(text => text.split('\0')),
      [
        gather(1),
        gather(2),
        ['stats', 'merge', merged, shard(1), shard(2), '--force'],
        ['prune', asPath(name), asPath(name), ...calib, '--statistics', merged, '--force'],
      ],
      JSON.stringify(name),
    );
    assert.equal(readdirSync(workingFolder), ['words']);
    assert.equal(
      readdirSync(place.path).sort(),
      ['bin', `bin ${name}`, `jobs ${name}`, `work ${name}`].sort(),
    );
  }
});

test('rm-engine slurm in a folder whose name is a command', async () => {
  using place = await workplace();
  const cwd = join(place.path, "a\ntouch PWNED\n$(touch PWNED)'`touch PWNED`'");
  const [folder, out] = ['-jobs "$(touch PWNED)"', '-out `touch PWNED`'];
  mkdirSync(cwd);
  const asked = [
    '--shards',
    '2',
    '--remove',
    '3,4',
    '--method',
    'replaceme-ls',
    '--calib',
    place.calibration,
  ];
  const { status, stdout, stderr } = await rmEngine(
    ['slurm', ...asked, `--folder=${folder}`, '--', place.model, out],
    { cwd },
  );
  assert.is(status, 0, stderr);
  const fake = program(join(place.path, 'fake'), printer);
  for (const job of ['round-1', 'merge-1', 'prune']) {
    const path = join(cwd, folder, `${job}.sbatch`);
    writeFileSync(path, readFileSync(path, 'utf8').replace(process.execPath, fake));
  }
  mkdirSync(join(place.path, 'bin'));
  program(join(place.path, 'bin', 'sbatch'), sbatch);
  const PATH = `${join(place.path, 'bin')}${delimiter}${process.env.PATH}`;
  // The command as it is printed.
  const command = /to submit: (.*)/.exec(stdout)![1]!;
  execFileSync('bash', ['-c', command], { cwd, env: { ...process.env, PATH } });
  const words = readFileSync(join(cwd, 'words'), 'utf8').split('\0');
  assert.ok(words.includes(join(cwd, folder, 'round-1-shard-2.safetensors')));
  assert.ok(words.includes(`./${out}`));
  assert.equal(readdirSync(cwd).sort(), [folder, 'words'].sort());
});

test('a folder that Slurm cannot write logs into is refused before anything is written', async () => {
  using place = await workplace();
  const asked = [
    '--shards',
    '2',
    '--remove',
    '3,4',
    '--method',
    'replaceme-ls',
    '--calib',
    place.calibration,
  ];
  for (const name of ['%j', '%\\']) {
    const before = place.left();
    const folder = join(place.path, name);
    const { status, stderr } = await rmEngine([
      'slurm',
      place.model,
      place.out,
      ...asked,
      '--folder',
      folder,
    ]);
    assert.is(status, 2);
    assert.match(stderr, /INVALID_ARGUMENT/);
    assert.match(stderr, /fix: Give another folder with --folder/);
    assert.equal(place.left(), before);
  }
  assert.not.ok(existsSync(place.out));
});

test.run();
