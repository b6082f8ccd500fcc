import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { graceOf } from '../../bench/gpuCheck/budget.js';
import type { StepEvent, StepInput, StepReport } from '../../bench/gpuCheck/report.js';
import type { AdapterInfo } from '../../engine/adapterInfo.js';
import { RmError } from '../../engine/errors.js';
import { HeardEvents } from './heardEvents.js';

/** How much of a step's stderr is kept: the end says why it ended. */
const KEPT_STDERR = 4096;

const REPORT =
  'Update the graphics driver; please report this with gpu-check.json and what the system log says of the driver.';

/** What a step came to, and the adapter that it opened. */
export interface RanStep {
  readonly report: StepReport;
  readonly adapter: AdapterInfo | undefined;
}

interface RunOptions {
  readonly signal: AbortSignal;
  /** Is told what the step is at. */
  readonly onProgress: (at: string) => void;
  /** The module that runs as the step; tests have others. */
  readonly module?: string;
  /** Seconds after those of the step in which it has to end. */
  readonly graceSeconds?: number;
  /** What an earlier step opened. */
  readonly opened?: AdapterInfo | null;
}

/** Ends a step with all that it has started. */
function endGroup(child: ChildProcess): void {
  try {
    if (process.platform !== 'win32' && child.pid) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It has no group, or is gone.
  }
  child.kill('SIGKILL');
}

const ownModule = (): string => fileURLToPath(new URL('./stepProcess.js', import.meta.url));

/**
 * Runs a step in a process of its own. A crash, a hang or a lost device is a finding of this step.
 *
 * @throws RmError ADAPTER_NONE where there is no adapter, or no GPU and a software adapter was not allowed; the reason of an
 *   abort.
 */
export async function runStep(input: StepInput, options: RunOptions): Promise<RanStep> {
  const { signal, onProgress, opened, module = ownModule(), graceSeconds = graceOf(input.seconds) } = options;
  const started = performance.now();
  const heard = new HeardEvents();
  let stderr = '';
  // A group of its own, so that it can be ended with all that it has started; a Ctrl-C reaches it through the signal.
  const stdio = ['ignore', 'ignore', 'pipe', 'ipc'] as const;
  const child = fork(module, [], { stdio: [...stdio], detached: true, ...{ windowsHide: true } });
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-KEPT_STDERR);
  });
  child.on('message', message => {
    heard.hear(message as StepEvent);
    if ('at' in (message as StepEvent)) onProgress(heard.at);
  });
  const ended = new Promise<string>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, name) => resolve(name ?? `exit code ${code}`));
  });
  let late = false;
  const onLate = () => {
    late = true;
    endGroup(child);
  };
  const timer = setTimeout(onLate, 1000 * (input.seconds + graceSeconds));
  const abort = () => endGroup(child);
  signal.addEventListener('abort', abort);
  let how: string;
  try {
    child.send(input, () => {});
    how = await ended;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
    // After a crash something that it has started may still run.
    if (heard.end === undefined) endGroup(child);
  }
  signal.throwIfAborted();
  if (heard.refused) {
    const { message, fix } = heard.refused;
    if (!opened) throw new RmError('ADAPTER_NONE', message, fix);
    // It was there before.
    heard.findings.push({ level: 'wrong', text: `the adapter is gone: ${message}`, fix: REPORT });
  }
  const software = opened?.kind === 'software';
  const status = late ? statusOfLate(heard, graceSeconds, software) : statusOfEnded(heard, how);
  const { adapter, findings, metrics, tables } = heard;
  return {
    adapter,
    report: {
      ...{ step: input.step, status, seconds: (performance.now() - started) / 1000 },
      limitSeconds: input.seconds,
      ...{ findings, metrics, tables, details: Object.fromEntries(heard.details) },
      ...(status === 'failed' && stderr.trim() !== '' && { stderr: stderr.trim() }),
    },
  };
}

const place = ({ at, details }: HeardEvents): string => {
  const reached = details.get('reached');
  return `${at ? ` at: ${at}` : ''}${reached === undefined ? '' : `, after ${reached}`}`;
};

/** A step that had to be ended: one that has said nothing all the time hung, any other was slow. */
function statusOfLate(heard: HeardEvents, graceSeconds: number, software: boolean): StepReport['status'] {
  if (heard.end !== undefined) return heard.end;
  // A software adapter may take as long for one piece of work, a GPU may not.
  if (heard.silence < graceSeconds || software || heard.adapter?.kind === 'software') {
    const text = `it was too slow for its time and was ended${place(heard)}`;
    heard.findings.push({ level: 'warning', text });
    return 'cut';
  }
  const text = `it hung for ${Math.round(heard.silence)} s${place(heard)}`;
  heard.findings.push({ level: 'wrong', text, fix: REPORT });
  return 'failed';
}

function statusOfEnded(heard: HeardEvents, how: string): StepReport['status'] {
  if (heard.end !== undefined) return heard.end;
  heard.findings.push({ level: 'wrong', text: `its process crashed (${how})${place(heard)}`, fix: REPORT });
  return 'failed';
}
