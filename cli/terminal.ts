import util from 'node:util';
import { outputError } from '../model/checkpoint/outputFolder.js';

/** The part of a stream that a terminal needs; process.stdout and process.stderr are such. */
export interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export interface TerminalOptions {
  /** Neither progress nor notes; warnings and errors stay. */
  quiet?: boolean;
  /** Details, and the stack of an error. */
  verbose?: boolean;
  stdout?: Output;
  stderr?: Output;
  env?: Readonly<Record<string, string | undefined>>;
}

type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow';

const coloured = (output: Output, env: Readonly<Record<string, string | undefined>>): boolean =>
  Boolean(output.isTTY) && !env.NO_COLOR && env.TERM !== 'dumb';

/** Where a command speaks: data on stdout, everything else on stderr. */
export class Terminal {
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly #stdout: Output;
  readonly #stderr: Output;
  readonly #coloured: { stdout: boolean; stderr: boolean };
  #liveLine = false;

  constructor(options: TerminalOptions = {}) {
    const env = options.env ?? process.env;
    this.verbose = options.verbose ?? false;
    this.quiet = options.quiet ?? false;
    this.#stdout = options.stdout ?? process.stdout;
    this.#stderr = options.stderr ?? process.stderr;
    this.#coloured = { stdout: coloured(this.#stdout, env), stderr: coloured(this.#stderr, env) };
  }

  /** Whether a line on stderr can be rewritten in place. */
  get isLive(): boolean {
    return Boolean(this.#stderr.isTTY) && !this.quiet;
  }

  /** Writes data to stdout as it is. */
  data(text: string): void {
    this.clearLive();
    try {
      this.#stdout.write(text);
    } catch (error) {
      // Node 20.0 throws here where later ones emit 'error' (see interrupt.ts).
      throw outputError(error, 'stdout');
    }
  }

  /** Writes the one object of --json. */
  json(value: unknown): void {
    this.data(`${JSON.stringify(value, null, 2)}\n`);
  }

  /** Something worth knowing that is no result. */
  note(text: string): void {
    if (!this.quiet) this.#line(text);
  }

  /** Only with --verbose. */
  detail(text: string): void {
    if (this.verbose) this.#line(this.style('stderr', 'dim', text));
  }

  warn(text: string): void {
    this.#line(`${this.style('stderr', 'yellow', 'warning:')} ${text}`);
  }

  /** What was asked for and is no data, also with --quiet. */
  report(text: string): void {
    this.#line(text);
  }

  /** Text of an error, also with --quiet. */
  error(text: string): void {
    this.#line(text);
  }

  /** Replaces the live line; call only when `isLive`. */
  live(text: string): void {
    const width = (this.#stderr.columns ?? 80) - 1;
    this.#stderr.write(`\r\u001b[K${text.slice(0, width)}`);
    this.#liveLine = true;
  }

  clearLive(): void {
    if (!this.#liveLine) return;
    this.#stderr.write('\r\u001b[K');
    this.#liveLine = false;
  }

  /** Colours a text, if that stream is a terminal and NO_COLOR is not set. */
  style(stream: 'stdout' | 'stderr', style: Style, text: string): string {
    if (!this.#coloured[stream]) return text;
    // Not util.styleText, which came with Node 20.12.
    const [open, close] = util.inspect.colors[style]!;
    return `\u001b[${open}m${text}\u001b[${close}m`;
  }

  #line(text: string): void {
    this.clearLive();
    this.#stderr.write(`${text}\n`);
  }
}
