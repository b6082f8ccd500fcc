import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Fault, Limits, Outcome } from './target.js';

/** A single input, or the inputs of a seed from an index on, for a time that begins with the first. */
export type Job =
  | { readonly module: string; readonly input: Uint8Array }
  | { readonly module: string; readonly seed: number; readonly from: number; readonly milliseconds: number };

interface Counts {
  readonly read: number;
  readonly refused: number;
}

/** What a child answers to a job of one input, and of many. */
export interface Single {
  readonly outcome: Outcome;
}
export interface Many extends Counts {
  /** Index of the first input that was not tried. */
  readonly next: number;
  /** Time since the first. */
  readonly milliseconds: number;
}
export type Report = Single | Many;

/** A fault, and the index of its input. */
export interface Located {
  readonly index: number;
  readonly fault: Fault;
}

/** The child died or was stopped while it tried the input at `index`. */
export interface Death extends Counts {
  readonly death: Fault;
  readonly index: number;
}

const WATCH_MS = 50;

/** CPU seconds and bytes of a process; only Linux tells them of another process. */
function usageOf(pid: number): { cpu: number; memory: number } | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]!.split(' ');
    const ticks = Number(fields[11]) + Number(fields[12]);
    return { cpu: ticks / 100, memory: Number(fields[21]) * 4096 };
  } catch {
    return undefined;
  }
}

/** A process that tries inputs within limits of memory and time. */
export class Child {
  readonly #folder = mkdtempSync(join(tmpdir(), 'rm-engine-fuzz-'));
  readonly #progress = join(this.#folder, 'progress');
  readonly #faults = join(this.#folder, 'faults');
  readonly #process: ChildProcess;
  #stderr = '';

  constructor(private readonly limits: Limits) {
    const work = join(this.#folder, 'work');
    mkdirSync(work);
    this.#process = fork(
      fileURLToPath(new URL('child.js', import.meta.url)),
      [this.#progress, this.#faults, work, `${limits.memory}`],
      {
        // Below the limit of the process, so that V8 says what happened.
        execArgv: ['--enable-source-maps', `--max-old-space-size=${Math.floor(limits.memory / 2 ** 21)}`],
        serialization: 'advanced',
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      },
    );
    this.#process.stderr!.on('data', data => {
      this.#stderr = (this.#stderr + data).slice(-4000);
    });
  }

  /** The first input of each fault among many inputs; the death of the process is not among them. */
  get faults(): readonly Located[] {
    if (!existsSync(this.#faults)) return [];
    const lines = readFileSync(this.#faults, 'utf8').trim().split('\n');
    return lines.map(line => JSON.parse(line) as Located);
  }

  get #isAlive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** The input that it tries, and how those before it ended. */
  get #reached(): Counts & { index: number } {
    try {
      const [index = 0, read = 0, refused = 0] = readFileSync(this.#progress, 'latin1')
        .split(' ')
        .map(Number);
      return { index, read, refused };
    } catch {
      return { index: 0, read: 0, refused: 0 };
    }
  }

  run(job: Job & { input: Uint8Array }): Promise<Single | Death>;
  run(job: Job & { seed: number }): Promise<Many | Death>;
  run(job: Job): Promise<Report | Death> {
    return new Promise(resolve => {
      const child = this.#process;
      let stopped: Fault | undefined;
      const watch = this.#watch(fault => {
        stopped = fault;
        child.kill('SIGKILL');
      });
      const end = (result: Report | Death) => {
        clearInterval(watch);
        child.removeAllListeners();
        resolve(result);
      };
      child.on('message', report => end(report as Report));
      child.on('close', (code, signal) => {
        end({ death: stopped ?? this.#lastWords(code, signal), ...this.#reached });
      });
      child.send(job);
    });
  }

  /** Calls `stop` when an input takes too long or too much. */
  #watch(stop: (fault: Fault) => void): NodeJS.Timeout {
    const { seconds, idleSeconds, memory } = this.limits;
    const pid = this.#process.pid!;
    let [index, since] = [-1, performance.now()];
    let cpuBefore = 0;
    return setInterval(() => {
      const usage = usageOf(pid);
      const now = performance.now();
      const reached = this.#reached.index;
      if (reached !== index) {
        index = reached;
        since = now;
        cpuBefore = usage?.cpu ?? 0;
      }
      const idle = (now - since) / 1000;
      if (usage && usage.memory > memory) {
        stop({
          kind: 'memory',
          key: 'memory',
          message: `the process took ${Math.round(usage.memory / 2 ** 20)} MiB`,
        });
      } else if ((usage ? usage.cpu - cpuBefore : idle) > seconds) {
        stop({ kind: 'hang', key: 'hang', message: `an input takes more than ${seconds} s` });
      } else if (idle > idleSeconds) {
        stop({ kind: 'hang', key: 'hang', message: `an input waits for more than ${idleSeconds} s` });
      }
    }, WATCH_MS);
  }

  #lastWords(code: number | null, signal: string | null): Fault {
    const words = this.#stderr.trim().split('\n');
    const full = words.find(line => /out of memory/i.test(line));
    if (full !== undefined) return { kind: 'memory', key: 'memory', message: full.trim() };
    const message = `the process ended with ${signal ?? `exit code ${code}`}: ${words.slice(0, 12).join('\n')}`;
    return { kind: 'crash', key: `crash ${signal ?? code}`, message };
  }

  /** Ends the process and removes its folder. */
  async stop(): Promise<void> {
    const child = this.#process;
    if (this.#isAlive) {
      const ended = new Promise(resolve => child.once('close', resolve));
      child.kill('SIGKILL');
      await ended;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
