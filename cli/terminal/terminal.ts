import util from 'node:util';
import { outputError } from '../../model/files/outputFolder.js';
import { cutToWidth, textWidth, wrapText } from '../../replaceme/report/text/textWidth.js';

/** The part of a stream that a terminal needs, as process.stdout and process.stderr have it. */
export interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
}

export interface TerminalOptions {
  /** No progress and no notes; warnings and errors stay. */
  quiet?: boolean;
  /** Prints details, and the stack of an error. */
  verbose?: boolean;
  stdout?: Output;
  stderr?: Output;
  env?: Readonly<Record<string, string | undefined>>;
}

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';
type Environment = Readonly<Record<string, string | undefined>>;

/** FORCE_COLOR decides, as in Node itself; without it https://no-color.org. */
function coloured(output: Output, env: Environment): boolean {
  if (env.FORCE_COLOR !== undefined) return !['0', 'false'].includes(env.FORCE_COLOR);
  return Boolean(output.isTTY) && !env.NO_COLOR && env.TERM !== 'dumb';
}

/** Build servers print every state of a rewritten line, and some of them give the process a pseudo-terminal. */
const isBuildServer = (env: Environment): boolean => Boolean(env.CI) && env.CI !== 'false';

/** Whether the terminal draws more than ASCII. Its locale says so, as for curses; the Linux console has few glyphs. */
function drawsUnicode(env: Environment): boolean {
  if (process.platform === 'win32') return true;
  return /utf-?8/i.test(env.LC_ALL || env.LC_CTYPE || env.LANG || '') && env.TERM !== 'linux';
}

const DEFAULT_COLUMNS = 80;
const DEFAULT_ROWS = 24;

/** The output of a command: data on stdout, everything else on stderr. */
export class Terminal {
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly #stdout: Output;
  readonly #stderr: Output;
  readonly #coloured: { stdout: boolean; stderr: boolean };
  readonly #canRewrite: boolean;
  readonly #unicode: boolean;
  /** Columns of the live line; 0 if there is none. */
  #liveColumns = 0;

  constructor(options: TerminalOptions = {}) {
    const env = options.env ?? process.env;
    this.verbose = options.verbose ?? false;
    this.quiet = options.quiet ?? false;
    this.#stdout = options.stdout ?? process.stdout;
    this.#stderr = options.stderr ?? process.stderr;
    this.#coloured = { stdout: coloured(this.#stdout, env), stderr: coloured(this.#stderr, env) };
    const capable = Boolean(this.#stderr.isTTY) && env.TERM !== 'dumb';
    this.#canRewrite = capable && !isBuildServer(env);
    this.#unicode = capable && drawsUnicode(env);
  }

  /** Whether a line on stderr can be rewritten in place. */
  get isLive(): boolean {
    return this.#canRewrite && !this.quiet;
  }

  /** Whether ornaments on stderr may be more than ASCII. */
  get isUnicode(): boolean {
    return this.#unicode;
  }

  /** Current columns of a stream; undefined unless it is a terminal. */
  columns(stream: 'stdout' | 'stderr'): number | undefined {
    const { isTTY, columns } = stream === 'stdout' ? this.#stdout : this.#stderr;
    // A pseudo-terminal without a size reports 0.
    return isTTY ? columns || DEFAULT_COLUMNS : undefined;
  }

  /** Current rows of stdout; undefined unless it is a terminal. */
  get rows(): number | undefined {
    return this.#stdout.isTTY ? this.#stdout.rows || DEFAULT_ROWS : undefined;
  }

  /** Writes data to stdout, unchanged. @throws RmError OUTPUT_FAILED (Node 20.0). */
  data(text: string): void {
    this.clearLive();
    try {
      this.#stdout.write(text);
    } catch (error) {
      // Node 20.0 throws here; later versions emit 'error' (see interrupt.ts).
      throw outputError(error, 'stdout');
    }
  }

  /** Prints the one object of --json. */
  json(value: unknown): void {
    this.data(`${JSON.stringify(value, null, 2)}\n`);
  }

  /** Prints one of several objects on a line (JSON Lines). */
  jsonLine(value: unknown): void {
    this.data(`${JSON.stringify(value)}\n`);
  }

  /** Prints something worth knowing, unless --quiet. */
  note(text: string): void {
    if (!this.quiet) this.#line(this.#wrapped(text));
  }

  /** Prints a detail, only with --verbose. */
  detail(text: string): void {
    if (this.verbose) this.#line(this.style('stderr', 'dim', text));
  }

  /** Prints a warning, also with --quiet. */
  warn(text: string): void {
    this.#line(this.#wrapped(`${this.style('stderr', 'yellow', 'warning:')} ${text}`));
  }

  /** Prints something that the user asked for, also with --quiet: a table of --profile. */
  report(text: string): void {
    this.#line(text);
  }

  /** Prints an error, also with --quiet. */
  error(text: string): void {
    this.#line(text);
  }

  /** Replaces the live line, cut at the terminal's width. Call it only if `isLive`. */
  live(text: string): void {
    const width = (this.columns('stderr') ?? DEFAULT_COLUMNS) - 1;
    const shown = textWidth(text) <= width ? text : cutToWidth(util.stripVTControlCharacters(text), width);
    this.#stderr.write(`${this.#erase()}${shown}`);
    this.#liveColumns = textWidth(shown);
  }

  /** Removes the live line. */
  clearLive(): void {
    if (this.#liveColumns === 0) return;
    this.#stderr.write(this.#erase());
    this.#liveColumns = 0;
  }

  /** Erases the live line. A terminal that became narrower has broken it into several rows. */
  #erase(): string {
    const rows = Math.ceil(this.#liveColumns / (this.columns('stderr') ?? DEFAULT_COLUMNS));
    return rows > 1 ? `\r\u001b[${rows - 1}A\u001b[J` : '\r\u001b[K';
  }

  /** Colours a text if the stream is a terminal and NO_COLOR is not set, or if FORCE_COLOR is set. */
  style(stream: 'stdout' | 'stderr', style: Style, text: string): string {
    if (!this.#coloured[stream]) return text;
    // Not util.styleText, which came with Node 20.12.
    const [open, close] = util.inspect.colors[style]!;
    return `\u001b[${open}m${text}\u001b[${close}m`;
  }

  /** Breaks prose between words; a terminal would break it anywhere. */
  #wrapped(text: string): string {
    const columns = this.columns('stderr');
    return columns === undefined ? text : wrapText(text, columns).join('\n');
  }

  #line(text: string): void {
    this.clearLive();
    this.#stderr.write(`${text}\n`);
  }
}
