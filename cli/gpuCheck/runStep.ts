import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { hangsAfter } from '../../bench/gpuCheck/budget.js';
import type { Finding, StepEvent, StepInput, StepReport } from '../../bench/gpuCheck/report.js';
import type { AdapterInfo } from '../../engine/adapter.js';
import { RmError } from '../../engine/errors.js';

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
  /** Seconds after which the step counts as hung. */
  readonly hangSeconds?: number;
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

/**
 * Runs a step in a process of its own. A crash, a hang or a lost device is a finding of this step.
 *
 * @throws RmError ADAPTER_NONE where there is no GPU and a software adapter was not allowed; the reason of an abort.
 */
export async function runStep(input: StepInput, options: RunOptions): Promise<RanStep> {
  const { signal, onProgress, hangSeconds = hangsAfter(input.seconds) } = options;
  const module = options.module ?? fileURLToPath(new URL('./stepProcess.js', import.meta.url));
  const started = performance.now();
  const findings: Finding[] = [];
  const metrics: StepReport['metrics'][number][] = [];
  const tables: StepReport['tables'][number][] = [];
  const details = new Map<string, unknown>();
  let adapter: AdapterInfo | undefined;
  let refused: { message: string; fix: string } | undefined;
  let end: 'done' | 'failed' | undefined;
  let at = '';
  let stderr = '';
  // A group of its own, so that it can be ended with all that it has started; a Ctrl-C reaches it through the signal.
  const child = fork(module, [], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    detached: true,
    ...{ windowsHide: true },
  });
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-KEPT_STDERR);
  });
  child.on('message', message => {
    const event = message as StepEvent;
    if ('finding' in event) findings.push(event.finding);
    else if ('metric' in event) metrics.push(event.metric);
    else if ('table' in event) tables.push(event.table);
    else if ('detail' in event) details.set(...event.detail);
    else if ('adapter' in event) adapter = event.adapter;
    else if ('refused' in event) refused = event.refused;
    else if ('at' in event) {
      at = event.at;
      onProgress(at);
    } else end = event.end;
  });
  const ended = new Promise<string>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, name) => resolve(name ?? `exit code ${code}`));
  });
  let hung = false;
  const timer = setTimeout(() => {
    hung = true;
    endGroup(child);
  }, 1000 * hangSeconds);
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
    if (end === undefined) endGroup(child);
  }
  signal.throwIfAborted();
  if (refused) throw new RmError('ADAPTER_NONE', refused.message, refused.fix);
  const place = at ? ` at: ${at}` : '';
  if (hung)
    findings.push({
      level: 'wrong',
      text: `it hung for more than ${Math.round(hangSeconds)} s${place}`,
      fix: REPORT,
    });
  else if (end === undefined)
    findings.push({ level: 'wrong', text: `its process crashed (${how})${place}`, fix: REPORT });
  const status = end ?? 'failed';
  return {
    adapter,
    report: {
      step: input.step,
      status,
      seconds: (performance.now() - started) / 1000,
      limitSeconds: input.seconds,
      ...{ findings, metrics, tables, details: Object.fromEntries(details) },
      ...(status === 'failed' && stderr.trim() !== '' && { stderr: stderr.trim() }),
    },
  };
}
