import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { PruneReport } from '../../replaceme/index.js';
import type { StepRun } from './stepRun.js';

/** How much of a command's stderr is kept: the end says why it failed. */
const KEPT = 2000;

interface Started {
  readonly child: ChildProcess;
  /** Resolves once it has ended, however it does. */
  readonly ended: Promise<{ code: number | null; stdout: string; stderr: string }>;
}

/** Starts `rm-engine prune` with the check's adapter. */
function start(run: StepRun, args: readonly string[]): Started {
  const { command, adapter } = run.input;
  const [program, ...words] = command;
  const all = [
    ...words,
    'prune',
    ...args,
    '--json',
    ...(adapter === undefined ? [] : ['--adapter', adapter]),
  ];
  const child = spawn(program!, all, { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-KEPT);
  });
  const ended = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', code => resolve({ code, stdout, stderr }));
  });
  return { child, ended };
}

/** Runs `rm-engine prune`; a failure is a finding. @returns the report, or undefined after a failure. */
export async function pruneCommand(
  run: StepRun,
  what: string,
  args: readonly string[],
): Promise<PruneReport | undefined> {
  run.at(what);
  const { code, stdout, stderr } = await start(run, args).ended;
  if (code === 0) return JSON.parse(stdout) as PruneReport;
  let reason = `it ended with ${code === null ? 'a signal' : `exit code ${code}`}: ${stderr.trim().split('\n').at(-1)}`;
  try {
    const { error } = JSON.parse(stdout) as { error: { message: string; code: string } };
    reason = `${error.message} (${error.code})`;
  } catch {
    // It said nothing, or half of it.
  }
  run.wrong(`${what}: ${reason}`);
  return undefined;
}

/** How often a run's first save is looked for. */
const POLL_MS = 50;

/**
 * Starts `rm-engine prune` and kills it some time after it has first saved its state in OUT.checkpoint.
 *
 * @returns whether it was killed; false where it ended before.
 */
export async function killedPrune(
  run: StepRun,
  out: string,
  args: readonly string[],
  afterMs: number,
): Promise<boolean> {
  const { child, ended } = start(run, [...args, '--checkpoint-every', '0']);
  let over = false;
  const outcome = ended.then(result => {
    over = true;
    return result;
  });
  while (!over && !existsSync(`${out}.checkpoint`)) await delay(POLL_MS);
  await Promise.race([delay(afterMs), outcome]);
  if (over) return false;
  child.kill('SIGKILL');
  await outcome;
  return true;
}
