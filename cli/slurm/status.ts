import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { RmError } from '../../engine/errors.js';
import { listOf, readForm, record, text, whole } from '../../engine/form.js';
import { parseJsonText } from '../../engine/json.js';
import { reasonOf } from '../../engine/reasons.js';

/** The state of a job. */
export interface JobStatus {
  readonly name: string;
  /** Slurm's number; undefined until it is submitted. */
  readonly id?: string;
  /** Number of tasks in each of Slurm's states: {"RUNNING": 3, "PENDING": 1}; empty if Slurm has forgotten the job. */
  readonly states: Readonly<Record<string, number>>;
  /** Number of its files that exist. */
  readonly files: number;
  /** Number of all its files. */
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

const listForm = record({ jobs: listOf(record({ name: text, tasks: whole(), results: listOf(text) })) });

const run = promisify(execFile);

/** Output of a Slurm command, empty if it fails: sacct without accounting, squeue for a job long gone. */
const outputOf = (program: string, args: readonly string[]): Promise<string> =>
  run(program, [...args]).then(
    ({ stdout }) => stdout,
    () => '',
  );

/** Counts the tasks of a job by state. sacct knows ended tasks too. */
async function statesOf(id: string): Promise<Record<string, number>> {
  const accounted = await outputOf('sacct', ['-n', '-X', '-P', '-j', id, '-o', 'State']);
  const queued = accounted.trim()
    ? ''
    : await outputOf('squeue', ['-h', '-r', '-t', 'all', '-j', id, '-o', '%T']);
  const states = new Map<string, number>();
  for (const line of (accounted || queued).split('\n')) {
    // The first word of "CANCELLED by 0".
    const state = line.trim().split(/[ +]/)[0];
    if (state) states.set(state, (states.get(state) ?? 0) + 1);
  }
  return Object.fromEntries(states);
}

/**
 * The states of a folder's jobs, from sacct or squeue, and how many of their files exist.
 *
 * @throws RmError DATA_INVALID unless `rm-engine slurm` wrote the folder.
 */
export async function clusterStatus(folder: string): Promise<JobStatus[]> {
  const path = join(folder, 'jobs.json');
  let list: JobList;
  try {
    list = readForm(parseJsonText(await readFile(path, 'utf8')), listForm, problem => new Error(problem));
  } catch (cause) {
    throw new RmError(
      'DATA_INVALID',
      `${path}: cannot be read: ${reasonOf(cause)}`,
      'Give the folder that rm-engine slurm wrote.',
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
