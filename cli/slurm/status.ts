import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { RmError } from '../../engine/errors.js';

/** What became of a job. */
export interface JobStatus {
  readonly name: string;
  /** Slurm's number; undefined where it was not submitted. */
  readonly id?: string;
  /** Slurm's words by number of tasks: {"RUNNING": 3, "PENDING": 1}; empty where Slurm has forgotten the job. */
  readonly states: Readonly<Record<string, number>>;
  /** Files that are there, of how many. */
  readonly files: number;
  readonly allFiles: number;
}

/** The list of jobs that `slurm` writes beside the scripts. */
export interface JobList {
  readonly jobs: readonly {
    readonly name: string;
    readonly tasks: number;
    readonly results: readonly string[];
  }[];
}

const run = promisify(execFile);

/** Output of a command of Slurm, or nothing where it fails: sacct without accounting, squeue of a job long gone. */
const said = (program: string, args: readonly string[]): Promise<string> =>
  run(program, [...args]).then(
    ({ stdout }) => stdout,
    () => '',
  );

/** Tasks of a job by state; accounting knows ended ones too. */
async function statesOf(id: string): Promise<Record<string, number>> {
  const accounted = await said('sacct', ['-n', '-X', '-P', '-j', id, '-o', 'State']);
  const queued = accounted.trim()
    ? ''
    : await said('squeue', ['-h', '-r', '-t', 'all', '-j', id, '-o', '%T']);
  const states: Record<string, number> = {};
  for (const line of (accounted || queued).split('\n')) {
    // "CANCELLED by 0"
    const state = line.trim().split(/[ +]/)[0];
    if (state) states[state] = (states[state] ?? 0) + 1;
  }
  return states;
}

/**
 * What squeue or sacct say of the jobs of a folder, and which of their files are there.
 *
 * @throws RmError DATA_INVALID where the folder is none that `rm-engine slurm` has written.
 */
export async function clusterStatus(folder: string): Promise<JobStatus[]> {
  const path = join(folder, 'jobs.json');
  let list: JobList;
  try {
    list = JSON.parse(await readFile(path, 'utf8')) as JobList;
  } catch (cause) {
    throw new RmError(
      'DATA_INVALID',
      `${path}: cannot be read: ${(cause as Error).message}`,
      'Give the folder that rm-engine slurm has written.',
      { cause },
    );
  }
  const submitted = await readFile(join(folder, 'jobs.txt'), 'utf8').catch(() => '');
  const ids = new Map(submitted.split('\n').map(line => line.split(' ') as [string, string]));
  return await Promise.all(
    list.jobs.map(async ({ name, results }) => {
      const id = ids.get(name);
      return {
        name,
        ...(id !== undefined && { id }),
        states: id === undefined ? {} : await statesOf(id),
        files: results.filter(result => existsSync(result)).length,
        allFiles: results.length,
      };
    }),
  );
}
