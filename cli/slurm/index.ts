import { execFile } from 'node:child_process';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type Command, InvalidArgumentError } from 'commander';
import { RmError } from '../../engine/errors.js';
import { checkOutputFolder, withOutputFolder, writeOutputFile } from '../../model/files/outputFolder.js';
import { formatFields, formatTable } from '../../replaceme/report/text/textTable.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from '../options/models.js';
import { each, type Parser, wholeNumber } from '../options/optionTypes.js';
import type { PruneSettings } from '../prune/configFile.js';
import { addPruneOptions, optionWords, pruneOptions } from '../prune/options.js';
import { newCommand, type Run, runs } from '../terminal/command.js';
import { clusterJobs, submitScript } from './scripts.js';
import { clusterStatus, type JobStatus } from './status.js';

interface SlurmOptions extends Omit<PruneSettings, 'model' | 'out' | 'dryRun'>, ModelFlags {
  shards: number;
  folder?: string;
  sbatch?: string[];
  submit?: boolean;
  json?: boolean;
}

const setting: Parser<string> = text => {
  if (!/^[a-z][a-z-]*(=\S+)?$/.test(text)) {
    throw new InvalidArgumentError(
      'Give settings of sbatch without dashes, such as partition=gpu gres=gpu:1.',
    );
  }
  return text;
};

const details = `Writes a folder of sbatch scripts (default: OUT.slurm) for stats and prune on K nodes or GPUs: for every round an array job of K
shards and a job that merges them, then a job that prunes; submit.sh submits them, each behind the one before, and so
does --submit. A task that a node loses is requeued by Slurm and sums its shard again; all files appear whole or not at all. The folder, the model
and the texts must lie where all nodes see them. rm-engine slurm status FOLDER shows how far the jobs are.

Which options can be divided: rm-engine stats gather --help. Give --tokens and --batch-tokens where nodes differ.`;

/** `slurm MODEL OUT`, `slurm status FOLDER` */
export function slurmCommand(signal: AbortSignal): Command {
  const slurm = newCommand('slurm', {
    summary: 'prune on a Slurm cluster',
    details:
      'rm-engine slurm MODEL OUT --shards K is short for slurm write. docs/scale.md tells what can be divided.',
    examples: [
      'rm-engine slurm write --help',
      'rm-engine slurm ./Llama-3.2-1B ./pruned --shards 8 --remove 9..12 --calib a.jsonl --submit',
      'rm-engine slurm status ./pruned.slurm',
    ],
  });
  slurm.addCommand(writeCommand(signal), { isDefault: true });
  slurm.addCommand(statusCommand(signal));
  return slurm;
}

function writeCommand(signal: AbortSignal): Command {
  const command = newCommand('slurm write', {
    summary: 'write, and submit, the jobs of one pruned model',
    details,
    args: [
      ['<model>', MODEL_TEXT],
      ['<out>', 'the folder that the last job writes'],
    ],
    examples: [
      'rm-engine slurm ./Llama-3.2-1B ./pruned --shards 8 --remove 9..12 --calib a.jsonl --sbatch partition=gpu gres=gpu:1 --submit',
      'rm-engine slurm ./Llama-3.2-1B ./pruned --shards 8 --layers 4 --select cosine --calib a.jsonl',
    ],
  }).requiredOption('--shards <count>', 'parts of the calibration batches, array tasks', wholeNumber(1));
  addPruneOptions(command)
    .optionsGroup('Cluster:')
    .option('--folder <folder>', 'where the scripts and the sums go (default: OUT.slurm)')
    .option(
      '--sbatch <settings...>',
      'of the jobs, such as partition=gpu gres=gpu:1 time=1:00:00',
      each(setting),
    )
    .option('--submit', 'submit the jobs')
    .option('--force', 'replace the folder of the scripts, and OUT in the end')
    .option('--json', 'print one JSON object');
  return runs<SlurmOptions>(withDownload(command), signal, (run, model, out) =>
    write(run, model as string, out as string),
  );
}

async function write(run: Run<SlurmOptions>, model: string, out: string): Promise<void> {
  const { shards, folder = `${out}.slurm`, sbatch = [], submit, json, force = false, ...given } = run.options;
  const { checkAccumulateRequest, accumulateRounds } = await import('../../replaceme/accumulate.js');
  const { adapter, memoryLimit, download: _, ...rest } = given;
  await findModels(run, [model]);
  const shard = { index: 1, of: shards };
  const rounds = accumulateRounds(await checkAccumulateRequest(model, { ...pruneOptions(rest), shard }));
  const device = [
    ...(adapter === undefined ? [] : ['--adapter', adapter]),
    ...(memoryLimit === undefined ? [] : ['--memory-limit', `${memoryLimit}`]),
  ];
  const plan = {
    ...{ folder: resolve(folder), workingFolder: process.cwd(), model, out, shards, rounds },
    program: [process.execPath, fileURLToPath(new URL('../main.js', import.meta.url)), ...device],
    options: optionWords({ ...rest }),
    settings: sbatch,
    force,
  };
  const jobs = clusterJobs(plan);
  const { locateModel } = await import('../../model/hub/locate.js');
  const protect = [(await locateModel(model)).path];
  // Hours before the last job would find it in the way.
  await checkOutputFolder(out, { force, protect });
  await withOutputFolder(folder, { force, protect }, async target => {
    for (const { name, script } of jobs) await writeOutputFile(join(target, `${name}.sbatch`), script);
    await writeOutputFile(join(target, 'submit.sh'), submitScript(plan.folder, jobs));
    const list = jobs.map(({ name, tasks, results }) => ({
      name,
      tasks,
      results: results.map(path => resolve(path)),
    }));
    await writeOutputFile(join(target, 'jobs.json'), `${JSON.stringify({ jobs: list }, null, 2)}\n`);
  });
  const ids = submit ? await submitted(plan.folder) : [];
  if (json)
    run.terminal.json({ folder: plan.folder, shards, rounds, jobs: jobs.map(({ name }) => name), ids });
  else {
    run.terminal.data(
      formatFields([
        ['folder', folder],
        ['jobs', `${jobs.map(({ name }) => name).join(', ')} (${shards} tasks a round)`],
        ['submitted', submit ? ids.join(', ') : `no: bash ${join(folder, 'submit.sh')}`],
        ['look', `rm-engine slurm status ${folder}`],
      ]),
    );
  }
}

/** Runs submit.sh; the numbers of the jobs. */
async function submitted(folder: string): Promise<string[]> {
  try {
    const { stdout } = await promisify(execFile)('bash', [join(folder, 'submit.sh')]);
    return stdout
      .trim()
      .split('\n')
      .map(line => line.split(' ')[1]!);
  } catch (cause) {
    const { stderr, message } = cause as Error & { stderr?: string };
    throw new RmError(
      'INVALID_ARGUMENT',
      `the jobs could not be submitted: ${(stderr || message).trim()}`,
      `Cancel those in ${join(folder, 'jobs.txt')} (scancel), mend the --sbatch settings, or submit on a machine of the cluster: bash ${join(folder, 'submit.sh')}`,
      { cause },
    );
  }
}

/** For people. */
export const formatStatus = (jobs: readonly JobStatus[]): string =>
  formatTable(
    [{ title: 'job' }, { title: 'number' }, { title: 'Slurm says' }, { title: 'files', align: 'right' }],
    jobs.map(({ name, id, states, files, allFiles }) => [
      name,
      id ?? 'not submitted',
      Object.entries(states)
        .map(([state, count]) => (count === 1 ? state : `${count} ${state}`))
        .join(', '),
      `${files} of ${allFiles}`,
    ]),
  );

function statusCommand(signal: AbortSignal): Command {
  const command = newCommand('slurm status', {
    summary: 'how far the jobs of a folder are',
    details: 'By sacct, or squeue where Slurm keeps no accounts, and by the files that are there.',
    args: [['<folder>', 'what rm-engine slurm has written']],
    examples: ['rm-engine slurm status ./pruned.slurm'],
  }).option('--json', 'print one JSON object');
  return runs<{ json?: boolean }>(command, signal, async ({ options, terminal }, folder) => {
    const jobs = await clusterStatus(folder as string);
    if (options.json) terminal.json({ jobs });
    else terminal.data(formatStatus(jobs));
  });
}
