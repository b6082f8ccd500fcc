import util from 'node:util';
import { outputError } from '../../model/files/outputFolder.js';
import { cutToWidth, textWidth, wrapText } from '../../replaceme/report/text/textWidth.js';

/** The part of a stream that a terminal needs; process.stdout and process.stderr are such. */
export interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
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

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';
type Environment = Readonly<Record<string, string | undefined>>;

/** FORCE_COLOR has the last word, as in Node itself; then https://no-color.org. */
function coloured(output: Output, env: Environment): boolean {
  if (env.FORCE_COLOR !== undefined) return !['0', 'false'].includes(env.FORCE_COLOR);
  return Boolean(output.isTTY) && !env.NO_COLOR && env.TERM !== 'dumb';
}

/** Build servers show every state of a line that is rewritten, some of them through a pseudo-terminal. */
const buildServer = (env: Environment): boolean => Boolean(env.CI) && env.CI !== 'false';

/** Whether a terminal draws more than ASCII: by its locale, as curses does; the console of Linux has few glyphs. */
function drawsUnicode(env: Environment): boolean {
  if (process.platform === 'win32') return true;
  return /utf-?8/i.test(env.LC_ALL || env.LC_CTYPE || env.LANG || '') && env.TERM !== 'linux';
}

const DEFAULT_COLUMNS = 80;
const DEFAULT_ROWS = 24;

/** Where a command speaks: data on stdout, everything else on stderr. */
export class Terminal {
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly #stdout: Output;
  readonly #stderr: Output;
  readonly #coloured: { stdout: boolean; stderr: boolean };
  readonly #rewrites: boolean;
  readonly #unicode: boolean;
  /** Columns of the line that is rewritten; 0 where there is none. */
  #liveColumns = 0;

  constructor(options: TerminalOptions = {}) {
    const env = options.env ?? process.env;
    this.verbose = options.verbose ?? false;
    this.quiet = options.quiet ?? false;
    this.#stdout = options.stdout ?? process.stdout;
    this.#stderr = options.stderr ?? process.stderr;
    this.#coloured = { stdout: coloured(this.#stdout, env), stderr: coloured(this.#stderr, env) };
    const capable = env.TERM !== 'dumb';
    this.#rewrites = Boolean(this.#stderr.isTTY) && capable && !buildServer(env);
    this.#unicode = Boolean(this.#stderr.isTTY) && capable && drawsUnicode(env);
  }

  /** Whether a line on stderr can be rewritten in place. */
  get isLive(): boolean {
    return this.#rewrites && !this.quiet;
  }

  /** Whether stderr may get more than ASCII by way of ornament. */
  get isUnicode(): boolean {
    return this.#unicode;
  }

  /** Columns of a stream as it is now; undefined where it is no terminal. */
  columns(stream: 'stdout' | 'stderr'): number | undefined {
    const { isTTY, columns } = stream === 'stdout' ? this.#stdout : this.#stderr;
    // A pseudo-terminal that was never given a size says 0.
    return isTTY ? columns || DEFAULT_COLUMNS : undefined;
  }

  /** Rows of stdout as it is now; undefined where it is no terminal. */
  get rows(): number | undefined {
    return this.#stdout.isTTY ? this.#stdout.rows || DEFAULT_ROWS : undefined;
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

  /** Writes one of several objects as a line (JSON Lines). */
  jsonLine(value: unknown): void {
    this.data(`${JSON.stringify(value)}\n`);
  }

  /** Something worth knowing that is no result. */
  note(text: string): void {
    if (!this.quiet) this.#line(this.#wrapped(text));
  }

  /** Only with --verbose. */
  detail(text: string): void {
    if (this.verbose) this.#line(this.style('stderr', 'dim', text));
  }

  warn(text: string): void {
    this.#line(this.#wrapped(`${this.style('stderr', 'yellow', 'warning:')} ${text}`));
  }

  /** What was asked for and is no data, also with --quiet. */
  report(text: string): void {
    this.#line(text);
  }

  /** Text of an error, also with --quiet. */
  error(text: string): void {
    this.#line(text);
  }

  /** Replaces the live line; call only when `isLive`. What does not fit in the terminal as it is now is cut off. */
  live(text: string): void {
    const width = (this.columns('stderr') ?? DEFAULT_COLUMNS) - 1;
    const shown = textWidth(text) <= width ? text : cutToWidth(util.stripVTControlCharacters(text), width);
    this.#stderr.write(`${this.#erase()}${shown}`);
    this.#liveColumns = textWidth(shown);
  }

  clearLive(): void {
    if (this.#liveColumns === 0) return;
    this.#stderr.write(this.#erase());
    this.#liveColumns = 0;
  }

  /** To the beginning of an empty live line. A terminal that became narrower meanwhile has broken it into several. */
  #erase(): string {
    const rows = Math.ceil(this.#liveColumns / (this.columns('stderr') ?? DEFAULT_COLUMNS));
    return rows > 1 ? `\r\u001b[${rows - 1}A\u001b[J` : '\r\u001b[K';
  }

  /** Colours a text, if that stream is a terminal and NO_COLOR is not set, or FORCE_COLOR is. */
  style(stream: 'stdout' | 'stderr', style: Style, text: string): string {
    if (!this.#coloured[stream]) return text;
    // Not util.styleText, which came with Node 20.12.
    const [open, close] = util.inspect.colors[style]!;
    return `\u001b[${open}m${text}\u001b[${close}m`;
  }

  /** Prose is broken between words where the terminal would do it anywhere. */
  #wrapped(text: string): string {
    const columns = this.columns('stderr');
    return columns === undefined ? text : wrapText(text, columns).join('\n');
  }

  #line(text: string): void {
    this.clearLive();
    this.#stderr.write(`${text}\n`);
  }
}
