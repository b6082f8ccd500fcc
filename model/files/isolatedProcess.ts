import { type ChildProcess, fork } from 'node:child_process';
import type { Socket } from 'node:net';

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** What a worker answers to a request. */
export type WorkerMessage = { readonly id: number } & (
  | { readonly result: unknown }
  | { readonly error: string }
);

/** How much of a worker's stderr is kept: the end says why it ended. */
const KEPT_STDERR = 4096;

/**
 * A process for work on untrusted input that may crash, hang or take all memory: none of that reaches this process. It
 * runs a module that calls `answerRequests`, does not keep this process alive while it is idle, and ends with it.
 */
export class IsolatedProcess {
  readonly #child: ChildProcess;
  readonly #pending = new Map<number, Pending>();
  #requests = 0;
  #stderr = '';
  #ended: Error | undefined;

  constructor(module: URL) {
    const { NODE_OPTIONS: _, RUST_BACKTRACE: __, ...env } = process.env;
    this.#child = fork(module, {
      serialization: 'advanced',
      execArgv: [],
      env,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      // In a group of its own, so that a Ctrl-C meant for this process does not end it.
      detached: true,
      ...{ windowsHide: true },
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-KEPT_STDERR);
    });
    this.#child.on('message', message => this.#receive(message as WorkerMessage));
    this.#child.on('error', error => this.#end(error.message));
    this.#child.on('close', (code, signal) => this.#end(this.#crash(code, signal)));
    this.#keepAlive(false);
  }

  /**
   * Sends a request and returns the worker's answer.
   *
   * @throws Error with the worker's message; or with the reason why it ended, for this and all later requests.
   */
  async request(body: unknown): Promise<unknown> {
    if (this.#ended) throw this.#ended;
    const id = this.#requests++;
    return await new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#keepAlive(true);
      this.#child.send({ id, body }, error => error && this.#end(error.message));
    });
  }

  /** Ends the process; requests that wait fail. */
  stop(): void {
    this.#end('it was stopped');
  }

  #receive(message: WorkerMessage): void {
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    this.#pending.delete(message.id);
    if (this.#pending.size === 0) this.#keepAlive(false);
    if ('error' in message) pending.reject(new Error(message.error));
    else pending.resolve(message.result);
  }

  #end(reason: string): void {
    if (this.#ended) return;
    this.#ended = new Error(reason);
    this.#child.kill('SIGKILL');
    for (const { reject } of this.#pending.values()) reject(this.#ended);
    this.#pending.clear();
    this.#keepAlive(false);
  }

  /** Whether this process waits for the worker before it ends by itself. */
  #keepAlive(wait: boolean): void {
    const stderr = this.#child.stderr as Socket;
    for (const handle of [this.#child, this.#child.channel, stderr]) {
      if (wait) handle?.ref();
      else handle?.unref();
    }
  }

  /** Why the process ended by itself: what its watchdog or a Rust panic said, else the first line of stderr. */
  #crash(code: number | null, signal: NodeJS.Signals | null): string {
    if (this.#stderr.endsWith('memory limit')) return 'it takes too much memory';
    if (this.#stderr.endsWith('time limit')) return 'it takes too much time';
    const lines = this.#stderr.split('\n');
    const panic = lines.findIndex(line => line.includes('panicked at'));
    const said = panic < 0 ? lines[0] : lines[panic + 1];
    return `it crashed${said ? `: ${said}` : ` (${signal ?? `exit code ${code}`})`}`;
  }
}
