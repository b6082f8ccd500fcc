/** A measured program in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { AdapterInfo } from '../../engine/adapterInfo.js';
import { MARK, type Prepare } from './serve.js';

export interface PrepareReply {
  readonly version: string;
  readonly adapter?: string | AdapterInfo;
  readonly repeats: number;
}

/** Time limit of an answer; the slowest is llama.cpp's first pass, which compiles all of its shaders. */
const PATIENCE_MS = 8 * 60_000;

interface Reply {
  readonly error?: string;
}

export class Child {
  readonly #process: ChildProcess;
  readonly #exited: Promise<void>;
  #ended: string | undefined;
  #lastWords = '';
  #waiting: { resolve(reply: Reply): void; reject(error: Error): void } | undefined;

  constructor(command: string, args: readonly string[]) {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#process = child;
    // 'close' below reports a dead program, so failed writes are ignored.
    child.stdin.on('error', () => {});
    createInterface({ input: child.stdout }).on('line', line => {
      if (!line.startsWith(MARK)) return;
      this.#waiting?.resolve(JSON.parse(line.slice(MARK.length)) as Reply);
      this.#waiting = undefined;
    });
    createInterface({ input: child.stderr }).on('line', line => {
      if (/error|terminate|cannot|not found/i.test(line)) this.#lastWords = line.trim();
    });
    this.#exited = new Promise(resolve => {
      const end = (reason: string) => {
        this.#ended ??= `${reason}${this.#lastWords && `: ${this.#lastWords}`}`;
        this.#waiting?.reject(new Error(this.#ended));
        this.#waiting = undefined;
        resolve();
      };
      child.on('error', error => end(error.message));
      child.on('close', (code, signal) => end(`ended with ${signal ?? `exit code ${code}`}`));
    });
  }

  async #ask<T extends object>(request: object): Promise<T> {
    if (this.#ended !== undefined) throw new Error(this.#ended);
    const answer = new Promise<Reply>((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
    const timer = setTimeout(() => {
      this.#ended = `no answer within ${PATIENCE_MS / 60_000} minutes`;
      this.#process.kill('SIGKILL');
    }, PATIENCE_MS);
    try {
      this.#process.stdin!.write(`${JSON.stringify(request)}\n`);
      const reply = await answer;
      if (reply.error !== undefined) throw new Error(reply.error);
      return reply as T;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Lets the program upload its inputs, check a result and warm up. */
  prepare(request: Prepare): Promise<PrepareReply> {
    return this.#ask(request);
  }

  /** Milliseconds of a run, the mean of `repeats`. */
  async sample(repeats: number): Promise<number> {
    const { milliseconds } = await this.#ask<{ milliseconds: number }>({ sample: repeats });
    return milliseconds / repeats;
  }

  /** Ends the process and waits for its exit, so that it does not slow the next one. */
  async close(): Promise<void> {
    this.#process.stdin!.end();
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), 5000);
    await this.#exited;
    clearTimeout(timer);
  }
}
