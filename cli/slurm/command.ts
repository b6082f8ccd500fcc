import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type Command, InvalidArgumentError } from 'commander';
import { ensure, RmError } from '../../engine/errors.js';
import { writeOutputFile } from '../../model/files/outputError.js';
import { withOutputFolder } from '../../model/files/outputFolder.js';
import { companionPath } from '../../model/files/unfinishedOutput.js';
import { recipeSettings } from '../../replaceme/options/pruneSettings.js';
import { shellPath } from '../../replaceme/report/text/shellWord.js';
import { shownJson, shownName } from '../../replaceme/report/text/shownText.js';
import { formatFields, formatTable } from '../../replaceme/report/text/textTable.js';
import { findModels, inputPaths, MODEL_TEXT, type ModelFlags, withDownload } from '../inputs/models.js';
import { each, type Parser, wholeNumber } from '../options/optionTypes.js';
import { addSettings, type Flags, optionWords } from '../options/settings.js';
import { pruneOptions } from '../prune/options.js';
import { newCommand, type Run, runs } from '../terminal/command.js';
import { jobsKind } from './jobsFolder.js';
import { type ClusterJob, type ClusterPlan, clusterJobs, submitScript } from './scripts.js';
import { clusterStatus, type JobList, type JobStatus } from './status.js';

interface SlurmOptions extends ModelFlags {
  shards: number;
  folder?: string;
  calib?: string[];
  calibTask?: string[];
  sbatch?: string[];
  submit?: boolean;
  force?: boolean;
  json?: boolean;
}

const setting: Parser<string> = text => {
  if (!/^[a-z][a-z-]*(=.+)?$/s.test(text) || shownName(text) !== text) {
    throw new InvalidArgumentError(
      'Give settings of sbatch without dashes, such as partition=gpu gres=gpu:1.',
    );
  }
  return text;
};

const details = `Writes a folder of sbatch scripts (default: OUT.slurm) that prune on K nodes or GPUs. Each round is an array job that sums K
shards of the calibration data and a job that merges them; the last job prunes. submit.sh or --submit submits the jobs,
each after the one before. If a node fails, Slurm requeues its task, which sums its shard again; files appear whole or not
at all. All nodes must see the folder, the model and the texts. rm-engine slurm status FOLDER shows the progress.

rm-engine stats gather --help says which options can be sharded. Give --tokens and --batch-tokens if the nodes differ.`;

/** `slurm MODEL OUT`, `slurm status FOLDER` */
export function slurmCommand(signal: AbortSignal): Command {
  const slurm = newCommand('slurm', {
    summary: 'prune on a Slurm cluster',
    details:
      'rm-engine slurm MODEL OUT --shards K is short for rm-engine slurm write. docs/scale.md says what can be sharded.',
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
    summary: 'write the jobs that prune a model, and submit them',
    details,
    args: [
      ['<model>', MODEL_TEXT],
      ['<out>', 'the folder of the pruned model; the last job writes it'],
    ],
    examples: [
      'rm-engine slurm ./Llama-3.2-1B ./pruned --shards 8 --remove 9..12 --sbatch gres=gpu:1 --submit',
      'rm-engine slurm ./Llama-3.2-1B ./pruned --shards 8 --layers 4 --select cosine --calib a.jsonl',
    ],
  }).requiredOption(
    '--shards <count>',
    'shards of the calibration data, one array task each',
    wholeNumber(1),
  );
  addSettings(command, recipeSettings)
    .optionsGroup('Cluster:')
    .option('--folder <folder>', 'folder for the scripts and the sums (default: OUT.slurm)')
    .option(
      '--sbatch <settings...>',
      'settings of sbatch for the jobs, such as partition=gpu gres=gpu:1 time=1:00:00',
      each(setting),
    )
    .option('--submit', 'submit the jobs')
    .option('--force', 'replace an earlier folder of scripts, and an earlier OUT in the end')
    .option('--json', 'print one JSON object');
  return runs<SlurmOptions>(withDownload(command), signal, (run, model, out) =>
    write(run, model as string, out as string),
  );
}

async function write(run: Run<SlurmOptions>, model: string, out: string): Promise<void> {
  const { folder = companionPath(out, '.slurm'), shards, submit, json, force = false } = run.options;
  await findModels(run, [model]);
  const plan = await planJobs(run, model, out, resolve(folder));
  const jobs = clusterJobs(plan);
  const { calib = [], calibTask = [] } = run.options;
  const inputs = await inputPaths([model], [...calib, ...calibTask]);
  const { checkModelOutput } = await import('../../model/writing/modelOutput.js');
  // Checked now: the last job would find OUT in the way only hours later.
  await checkModelOutput(model, out, { force, protect: [...inputs, folder] });
  await withOutputFolder(folder, jobsKind, { force, protect: [...inputs, out] }, target =>
    writeJobs(target, plan.folder, jobs),
  );
  const ids = submit ? await submitJobs(plan.folder) : [];
  const names = jobs.map(({ name }) => name);
  if (json) {
    run.terminal.json({ folder: plan.folder, shards, rounds: plan.rounds, jobs: names, ids });
    return;
  }
  run.terminal.data(
    formatFields([
      ['folder', folder],
      ['jobs', `${names.join(', ')} (${shards} tasks per round)`],
      ['submitted', submit ? ids.join(', ') : `no; to submit: ${submitCommand(folder)}`],
      ['progress', `rm-engine slurm status ${shellPath(folder)}`],
    ]),
  );
}

/** @throws RmError INVALID_ARGUMENT for a folder whose name the scripts cannot hold. */
function checkNames(folder: string, workingFolder: string): void {
  ensure(
    !/[%\\]/.test(folder),
    `${folder}: Slurm cannot write logs into a folder with % or \\ in its path: it expands and drops them`,
    'Give another folder with --folder.',
  );
  ensure(
    existsSync(workingFolder),
    `${workingFolder}: the working folder's name is not UTF-8, so that no script can name it`,
    'Work in another folder.',
  );
}

const submitCommand = (folder: string): string => `bash ${shellPath(join(folder, 'submit.sh'))}`;

/** Checks the request and counts its rounds. @throws RmError if it cannot be sharded. */
async function planJobs(
  run: Run<SlurmOptions>,
  model: string,
  out: string,
  folder: string,
): Promise<ClusterPlan> {
  const { shards, sbatch = [], force = false, adapter, memoryLimit } = run.options;
  const workingFolder = process.cwd();
  checkNames(folder, workingFolder);
  const flags: Flags = { ...run.options };
  const { checkAccumulateRequest, accumulateRounds } = await import('../../replaceme/accumulate.js');
  const request = { ...pruneOptions(flags), shard: { index: 1, of: shards } };
  const device = [
    ...(adapter === undefined ? [] : ['--adapter', adapter]),
    ...(memoryLimit === undefined ? [] : ['--memory-limit', `${memoryLimit}`]),
  ];
  return {
    ...{ folder, workingFolder, model, out, shards, settings: sbatch, force },
    rounds: accumulateRounds(await checkAccumulateRequest(model, request)),
    program: [process.execPath, fileURLToPath(new URL('../main.js', import.meta.url)), ...device],
    options: optionWords(recipeSettings, flags),
  };
}

/** Writes the scripts, submit.sh and jobs.json into `target`, which becomes `folder`. */
async function writeJobs(target: string, folder: string, jobs: readonly ClusterJob[]): Promise<void> {
  for (const { name, script } of jobs) await writeOutputFile(join(target, `${name}.sbatch`), script);
  await writeOutputFile(join(target, 'submit.sh'), submitScript(folder, jobs));
  const list: JobList = {
    jobs: jobs.map(({ name, tasks, results }) => ({
      ...{ name, tasks },
      results: results.map(path => resolve(path)),
    })),
  };
  await writeOutputFile(join(target, 'jobs.json'), `${shownJson(list)}\n`);
}

/** Runs submit.sh. @returns Slurm's numbers of the jobs. @throws RmError INVALID_ARGUMENT if Slurm refuses them. */
async function submitJobs(folder: string): Promise<string[]> {
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
      `Cancel the jobs in ${join(folder, 'jobs.txt')} (scancel). Then correct the --sbatch settings, or submit on a machine of the cluster: ${submitCommand(folder)}`,
      { cause },
    );
  }
}

/** The table for people. */
const formatStatus = (jobs: readonly JobStatus[]): string =>
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
    summary: 'show how far the jobs of a folder are',
    details: 'Asks sacct, or squeue if Slurm keeps no accounts, and counts the files that exist.',
    args: [['<folder>', 'folder that rm-engine slurm wrote']],
    examples: ['rm-engine slurm status ./pruned.slurm'],
  }).option('--json', 'print one JSON object');
  return runs<{ json?: boolean }>(command, signal, async ({ options, terminal }, folder) => {
    const jobs = await clusterStatus(folder as string);
    if (options.json) terminal.json({ jobs });
    else terminal.data(formatStatus(jobs));
  });
}
