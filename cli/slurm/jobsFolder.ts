import { join } from 'node:path';
import { type FolderKind, textKind } from '../../model/files/outputKind.js';

const listKind = textKind(
  'a list of jobs',
  /^\{\s*"jobs": \[\s*\{\s*"name": "[a-z\d-]+",\s*"tasks": \d+,\s*"results": \[/,
);

/** Files of a folder of jobs: scripts, lists, logs of Slurm, and sums. */
const parts =
  /^(jobs\.(json|txt)|submit\.sh|((round|merge)-\d+|prune)\.sbatch|log-((round|merge)-\d+(-\d+)?|prune)\.txt|round-\d+(-shard-\d+)?\.safetensors)$/;

/** A folder that `rm-engine slurm` wrote, with what its jobs have left there. */
export const jobsKind: FolderKind = {
  name: 'a folder of rm-engine slurm',
  isOne: folder => listKind.isOne(join(folder, 'jobs.json')),
  holds: name => parts.test(name),
};
