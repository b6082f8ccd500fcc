import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { JobStatus } from '../../cli/slurm/status.js';
import { rmEngine } from '../cli/support.js';
import { relativeError } from '../gpu.js';
import { workplace } from '../replaceme/workplace.js';
import { readGolden, saySkipped } from '../support.js';

const start = fileURLToPath(new URL('../../../test/slurm/start.sh', import.meta.url));
const asked = (text: string) => [
  ...['--method', 'replaceme-ls', '--remove', '3,4', '--calib', text],
  ...['--tokens', '1024', '--sequence-length', '64', '--batch-tokens', '64'],
];

/** Why no cluster can be started here. */
function lacking(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root can start one';
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'];
  const missing = ['munged', 'slurmctld', 'slurmd', 'sbatch', 'squeue'].filter(
    program => !folders.some(folder => existsSync(join(folder, program))),
  );
  return missing.length > 0 ? `${missing.join(', ')} not installed (Debian: slurm-wlm munge)` : undefined;
}

/** A Slurm with two nodes on this host; it ends with the block. */
async function cluster(folder: string) {
  const port = 20_000 + (process.pid % 10_000);
  const path = `${process.env.PATH}${delimiter}/usr/sbin`;
  const child = spawn('bash', [start, folder, `${port}`], {
    stdio: ['pipe', 'pipe', 'ignore'],
    env: { ...process.env, PATH: path },
  });
  const ended = new Promise<void>(resolve => child.on('close', () => resolve()));
  const ready = new Promise<void>(resolve => {
    child.stdout.setEncoding('utf8').on('data', text => `${text}`.includes('ready') && resolve());
  });
  await Promise.race([ready, ended]);
  assert.is(child.exitCode, null, 'the cluster runs');
  const env = { SLURM_CONF: join(folder, 'slurm.conf') };
  return {
    env,
    ask: (program: string, ...args: string[]) =>
      execFileSync(program, args, { env: { ...process.env, ...env }, encoding: 'utf8' }).trim(),
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await ended;
    },
  };
}

/** Looks again until there is an answer. */
async function until<T>(what: string, look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (const end = Date.now() + 300_000; Date.now() < end; await sleep(200)) {
    const found = await look();
    if (found !== undefined) return found;
  }
  throw new Error(`waited too long for ${what}`);
}

const reason = lacking();
if (reason) saySkipped(`a real Slurm: ${reason}`);
else {
  test('four shards on two nodes, one killed and requeued: the model of a single run', async () => {
    using place = await workplace();
    await using slurm = await cluster(join(place.path, 'cluster'));
    const { env } = slurm;
    // Names that sbatch, its scripts and the nodes must take as they are.
    const folder = join(place.path, "jobs $(touch PWNED)\n#'x' ;");
    const out = join(place.path, 'pruned "%j`touch PWNED`');
    const written = await rmEngine(
      [
        ...['slurm', place.model, out, ...asked(place.calibration), '--shards', '4'],
        ...['--folder', folder, '--submit', '--json', '--sbatch', 'comment=a#b "c" \\d \'e\''],
      ],
      { env },
    );
    assert.is(written.status, 0, written.stderr);
    const { ids, jobs, rounds } = JSON.parse(written.stdout);
    assert.equal([jobs, rounds], [['round-1', 'merge-1', 'prune'], 1]);
    const array = ids[0] as string;
    assert.ok(
      slurm.ask('scontrol', 'show', 'job', array).includes('Comment=a#b "c" \\d \'e\''),
      'as sbatch reads it',
    );
    const status = async (): Promise<JobStatus[]> => {
      const { status: code, stdout, stderr } = await rmEngine(['slurm', 'status', folder, '--json'], { env });
      assert.is(code, 0, stderr);
      return JSON.parse(stdout).jobs;
    };

    const running = await until('a running task', () => {
      const lines = slurm.ask('squeue', '-h', '-r', '-j', array, '-t', 'RUNNING', '-o', '%K');
      return lines.split('\n')[0] || undefined;
    });
    // Kills what runs, and puts the task into the queue again.
    slurm.ask('scontrol', 'requeue', `${array}_${running}`);
    const during = await status();
    assert.equal(
      during.map(({ allFiles }) => allFiles),
      [4, 1, 1],
    );
    assert.ok(during[0]!.states.PENDING! >= 1, JSON.stringify(during));
    assert.is(during[1]!.states.PENDING, 1);

    const logs = () => execFileSync('bash', ['-c', 'tail -n 5 log-*'], { cwd: folder, encoding: 'utf8' });
    assert.match(logs(), /log-round-1-1\.txt/);
    await until('the pruned model', async () => {
      const left = slurm.ask('squeue', '-h', '-o', '%T');
      return left === '' ? true : undefined;
    });
    assert.ok(existsSync(out), logs());
    assert.match(slurm.ask('scontrol', 'show', 'job', `${array}_${running}`), /Restarts=1/);
    const after = await status();
    for (const { name, files, allFiles, states } of after) {
      assert.is(files, allFiles, name);
      assert.equal(Object.keys(states), ['COMPLETED'], name);
    }
    const report = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
    assert.is(report.calibration.tokens, 1024);

    const alone = join(place.path, 'alone');
    const single = await rmEngine([
      'prune',
      place.model,
      alone,
      ...asked(place.calibration),
      '--report',
      'none',
    ]);
    assert.is(single.status, 0, single.stderr);
    const weights = await readGolden(join(out, 'model.safetensors'));
    for (const [name, { values }] of await readGolden(join(alone, 'model.safetensors'))) {
      // Stored in bf16: a value on the edge may fall to the other side.
      assert.ok(relativeError(weights.get(name)!.values, values) <= 2e-4, name);
    }
  });
}

test('scripts without a cluster: what to submit, and what is in the way', async () => {
  using place = await workplace();
  const folder = join(place.path, 'jobs');
  const words = [
    ...['slurm', place.model, place.out, '--shards', '2', '--layers', '2', '--select', 'cosine'],
    ...['--calib', place.calibration, '--ridge', '0.5', '--folder', folder],
    ...['--sbatch', 'partition=gpu', 'gres=gpu:1'],
  ];
  const { status, stdout, stderr } = await rmEngine(words);
  assert.is(status, 0, stderr);
  assert.match(stdout, /round-1, merge-1, round-2, merge-2, round-3, merge-3, prune/);
  const script = readFileSync(join(folder, 'round-2.sbatch'), 'utf8');
  assert.match(script, /^#SBATCH --array=1-2$/m);
  assert.match(script, /^#SBATCH --gres=gpu:1$/m);
  assert.match(
    script,
    /stats gather .* --shard "\$SLURM_ARRAY_TASK_ID"\/2 .*--ridge 0\.5 .*--statistics .*round-1\.safetensors --force$/m,
  );
  const merge = readFileSync(join(folder, 'merge-2.sbatch'), 'utf8');
  assert.match(merge, /^#SBATCH --partition=gpu$/m);
  assert.not.match(merge, /gres/);
  assert.match(
    readFileSync(join(folder, 'prune.sbatch'), 'utf8'),
    /prune .* --statistics .*round-3\.safetensors\n$/,
  );
  for (const name of ['submit.sh', 'round-1.sbatch']) execFileSync('bash', ['-n', join(folder, name)]);
  const state = await rmEngine(['slurm', 'status', folder]);
  assert.match(state.stdout, /prune +not submitted +0 of 1/);

  const again = await rmEngine(words);
  assert.is(again.status, 1);
  assert.match(again.stderr, /OUTPUT_EXISTS/);
  const measured = await rmEngine(['slurm', place.model, place.out, '--shards', '2', '--layers', '2']);
  assert.match(measured.stderr, /measured runs changed models/);
  assert.match((await rmEngine(['slurm', 'status', place.model])).stderr, /DATA_INVALID/);
  assert.is((await rmEngine([...words, '--sbatch', 'a b'])).status, 2);
});

test.run();
