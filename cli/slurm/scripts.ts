import { pathArgument, shellWord } from '../../replaceme/report/text/shellWord.js';

/** Everything that the jobs of one pruned model need. */
export interface ClusterPlan {
  /** The folder of the scripts, absolute. Slurm writes the logs there, so its name has neither % nor \. */
  readonly folder: string;
  /** The folder that relative paths start from. */
  readonly workingFolder: string;
  /** The command line that starts rm-engine, in words. */
  readonly program: readonly string[];
  readonly model: string;
  readonly out: string;
  /** Options of prune, in words. */
  readonly options: readonly string[];
  readonly shards: number;
  readonly rounds: number;
  /** Settings of sbatch, such as "partition=gpu", for the jobs that compute. */
  readonly settings: readonly string[];
  /** Whether the last job may replace what is at `out`. */
  readonly force: boolean;
}

/** One job: a script, its name, and how many array tasks it has. */
export interface ClusterJob {
  readonly name: string;
  readonly tasks: number;
  /** Files that it writes, absolute. */
  readonly results: readonly string[];
  readonly script: string;
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);

/** The jobs in order: each waits for the one before. */
export function clusterJobs(plan: ClusterPlan): ClusterJob[] {
  const { folder, out, options, shards, rounds } = plan;
  const model = pathArgument(plan.model);
  const shardFile = (round: number, shard: number) => `${folder}/round-${round}-shard-${shard}.safetensors`;
  const merged = (round: number) => `${folder}/round-${round}.safetensors`;
  const text = (words: readonly string[]) => words.map(shellWord).join(' ');
  const line = (words: readonly string[]) => text([...plan.program, ...words]);
  const before = (round: number) => (round > 1 ? ['--statistics', merged(round - 1)] : []);
  const jobs = numbers(rounds).flatMap((round): ClusterJob[] => {
    const files = numbers(shards).map(shard => shardFile(round, shard));
    // A variable of the shell, so outside of the quoted words.
    const task = '"$SLURM_ARRAY_TASK_ID"';
    const file = `${shellWord(`${folder}/round-${round}-shard-`)}${task}.safetensors`;
    const gather = `${line(['stats', 'gather', model])} ${file} --shard ${task}/${shards}`;
    const merge = ['stats', 'merge', merged(round), ...(round > 1 ? [merged(round - 1)] : []), ...files];
    return [
      {
        name: `round-${round}`,
        tasks: shards,
        results: files,
        script: script(
          plan,
          `round-${round}`,
          [`array=1-${shards}`, ...plan.settings],
          `# Part k of ${shards} of the calibration batches.\n${gather} ${text([...options, ...before(round), '--force'])}`,
        ),
      },
      {
        name: `merge-${round}`,
        tasks: 1,
        results: [merged(round)],
        script: script(
          plan,
          `merge-${round}`,
          partitionOf(plan.settings),
          `# Needs no GPU.\n${line([...merge, '--force'])}`,
        ),
      },
    ];
  });
  const words = [
    ...['prune', model, pathArgument(out)],
    ...options,
    '--statistics',
    merged(rounds),
    ...(plan.force ? ['--force'] : []),
  ];
  const prune = script(
    plan,
    'prune',
    plan.settings,
    `# All sums exist: no pass over the tokens.\n${line(words)}`,
  );
  return [...jobs, { name: 'prune', tasks: 1, results: [out], script: prune }];
}

/** The settings that a job without a GPU shares with the others: where and for whom it runs. */
const partitionOf = (settings: readonly string[]): string[] =>
  settings.filter(setting => /^(partition|account|qos|time|reservation)=/.test(setting));

/** A setting as sbatch reads it in a script, by rules of its own: # begins a comment, double quotes hold all else. */
function sbatchSetting(setting: string): string {
  if (/^[\w%+,./:=@*-]+$/.test(setting)) return `--${setting}`;
  const at = setting.indexOf('=') + 1;
  return `--${setting.slice(0, at)}"${setting.slice(at).replace(/["\\]/g, '\\$&')}"`;
}

/** No name of the user's is in a line for sbatch, which would expand it. Logs are relative to where submit.sh calls it. */
const script = (
  { workingFolder }: ClusterPlan,
  name: string,
  settings: readonly string[],
  work: string,
): string => `#!/bin/bash
#SBATCH --job-name=rm-engine-${name}
#SBATCH --output=log-${name}${settings.some(setting => setting.startsWith('array=')) ? '-%a' : ''}.txt
#SBATCH --open-mode=append
#SBATCH --requeue
${settings.map(setting => `#SBATCH ${sbatchSetting(setting)}\n`).join('')}set -euo pipefail
cd -- ${shellWord(workingFolder)}
${work}
`;

/** A script that submits each job to run after the one before, and keeps their numbers in jobs.txt. */
export const submitScript = (folder: string, jobs: readonly ClusterJob[]): string => `#!/bin/bash
# Submits all jobs. Each starts when the one before has succeeded, and is cancelled if that one fails.
set -euo pipefail
cd -- ${shellWord(folder)}
rm -f jobs.txt
submit() {
  id=$(sbatch --parsable --kill-on-invalid-dep=yes \${id:+--dependency=afterok:$id} "$1.sbatch")
  id=\${id%%;*}
  echo "$1 $id" >> jobs.txt
}
id=''
${jobs.map(({ name }) => `submit ${name}\n`).join('')}cat jobs.txt
`;
