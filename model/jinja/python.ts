import { Worker } from 'node:worker_threads';
import { exactJsonText } from '../files/exactJson.js';
import { type FailureReason, TemplateFailure } from './templateFailure.js';

/** How long one template may take, beside the start of Python. Ordinary ones take a few milliseconds. */
const MOST_MS = 5000;

/** What the worker answers. */
type Answer =
  | { readonly result: unknown }
  | { readonly reason: FailureReason; readonly message: string; readonly line: number | null };

/** Python in a worker thread. Templates are untrusted code: whatever one does there, this thread stays free. */
class PythonThread {
  readonly #worker = new Worker(new URL('./worker.js', import.meta.url), {
    env: {},
    execArgv: [],
    stdout: true,
    stderr: true,
  });
  #last: Promise<unknown>;
  #settle: ((answer: string | Error) => void) | undefined;
  #ended: Error | undefined;

  constructor() {
    this.#worker.on('message', (answer: string) => this.#settle?.(answer));
    this.#worker.on('error', error =>
      // JavaScript's stack ends before Python's where an expression is nested very deeply.
      this.#end(error instanceof RangeError ? new TemplateFailure('recursion') : error),
    );
    this.#worker.on('exit', () => this.#end(new Error('Python has ended')));
    this.#last = this.#next();
    this.#last.catch(() => {});
  }

  get ended(): boolean {
    return this.#ended !== undefined;
  }

  /** Sends a request once the earlier ones are answered. The thread keeps the process alive only until its answer. */
  ask(request: string): Promise<Answer> {
    const before = this.#last;
    const answer = (async () => {
      this.#worker.ref();
      await before.catch(() => {});
      const next = this.#next();
      const late = setTimeout(() => this.#end(new TemplateFailure('time')), MOST_MS);
      this.#worker.postMessage(request);
      try {
        return JSON.parse(await next) as Answer;
      } finally {
        clearTimeout(late);
        this.#worker.unref();
      }
    })();
    this.#last = answer;
    return answer;
  }

  #next(): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#settle = answer => (typeof answer === 'string' ? resolve(answer) : reject(answer));
      if (this.#ended) reject(this.#ended);
    });
  }

  #end(error: Error): void {
    this.#ended ??= error;
    this.#settle?.(this.#ended);
    void this.#worker.terminate();
  }
}

let thread: PythonThread | undefined;

/**
 * Evaluates a template in Python.
 *
 * @param request JSON; numbers of parseExactJson keep their spelling.
 * @throws TemplateFailure for a template that is wrong, or takes too much time or memory.
 */
export async function askPython(request: Readonly<Record<string, unknown>>): Promise<unknown> {
  if (!thread || thread.ended) thread = new PythonThread();
  const answer = await thread.ask(exactJsonText(request));
  if ('result' in answer) return answer.result;
  throw new TemplateFailure(answer.reason, answer.message, answer.line);
}
