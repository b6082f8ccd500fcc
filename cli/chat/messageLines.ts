import { createInterface, type Interface } from 'node:readline';
import { Writable } from 'node:stream';

/** The source of lines, such as process.stdin. */
type LineInput = NodeJS.ReadableStream & { readonly isTTY?: boolean };
/** Shows the user's typing, such as process.stderr. */
type LineOutput = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

interface MessageLinesOptions {
  readonly prompt: string;
  readonly signal: AbortSignal;
  /** Called at the first Ctrl-C on an empty line. */
  onHint(): void;
  /** Called at the second Ctrl-C. */
  onEnd(): void;
}

/**
 * Lines from a pipe, or from a person at a terminal, with editing and history. Text typed during an answer is not shown
 * but kept for the next line.
 */
export class MessageLines {
  readonly interactive: boolean;
  readonly #readline: Interface;
  readonly #prompt: string;
  readonly #signal: AbortSignal;
  readonly #lines: string[] = [];
  #waiting: { resolve(line: string | undefined): void; reject(reason: unknown): void } | undefined;
  #closed = false;
  #shown = false;
  /** Number of Ctrl-C since the last line. */
  #interrupts = 0;
  #stop: AbortController | undefined;

  constructor(input: LineInput, output: LineOutput, options: MessageLinesOptions) {
    this.interactive = Boolean(input.isTTY && output.isTTY);
    this.#prompt = options.prompt;
    this.#signal = options.signal;
    this.#readline = createInterface(
      this.interactive
        ? { input, output: this.#screen(output), terminal: true, prompt: options.prompt }
        : { input, terminal: false },
    );
    this.#readline.on('line', line => {
      this.#interrupts = 0;
      this.#lines.push(line);
      this.#deliver();
    });
    this.#readline.on('close', () => {
      this.#closed = true;
      this.#deliver();
    });
    // The terminal is in raw mode: Ctrl-C arrives here, not as a signal to the process.
    this.#readline.on('SIGINT', () => this.#interrupted(options));
    options.signal.addEventListener('abort', () => this.#deliver(), { once: true });
  }

  /** Passes on what readline draws, except during an answer. */
  #screen(output: LineOutput): Writable {
    const screen = new Writable({
      write: (chunk, _encoding, done) => {
        if (this.#shown) output.write(chunk);
        done();
      },
    });
    Object.defineProperty(screen, 'columns', { get: () => output.columns });
    output.on('resize', () => screen.emit('resize'));
    return screen;
  }

  #interrupted({ onHint, onEnd }: MessageLinesOptions): void {
    if (this.#readline.line !== '' && this.#shown) {
      this.#readline.write(null, { ctrl: true, name: 'e' });
      this.#readline.write(null, { ctrl: true, name: 'u' });
      return;
    }
    this.#interrupts++;
    if (this.#interrupts > 1) {
      onEnd();
    } else if (this.#stop) {
      this.#stop.abort();
    } else {
      onHint();
      this.#readline.prompt();
    }
  }

  /** The next line; undefined at the end of the input. Rejects with the signal's reason once it is aborted. */
  next(): Promise<string | undefined> {
    this.#shown = true;
    if (this.interactive && !this.#closed) {
      this.#readline.setPrompt(this.#prompt);
      this.#readline.prompt(true);
    }
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#deliver();
    });
  }

  #deliver(): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    const line = this.#lines.shift();
    if (this.#signal.aborted) waiting.reject(this.#signal.reason);
    else if (line !== undefined || this.#closed) waiting.resolve(line);
    else return;
    this.#waiting = undefined;
  }

  /** Does work that Ctrl-C stops: it aborts the signal that the work receives. */
  async stoppable<T>(work: (stop: AbortSignal) => Promise<T>): Promise<T> {
    this.#stop = new AbortController();
    this.#shown = false;
    try {
      return await work(this.#stop.signal);
    } finally {
      this.#stop = undefined;
    }
  }

  close(): void {
    this.#readline.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
