import { withoutCredentials } from '../../engine/withoutCredentials.js';
import { outputError } from '../../model/files/outputError.js';
import { shownJson, shownName, shownText } from '../../replaceme/report/text/shownText.js';
import { cutToWidth, textWidth, wrapText } from '../../replaceme/report/text/textWidth.js';
import { colouredText, plainText, styled, type Text } from './text.js';

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

/**
 * The output of a command: data on stdout, everything else on stderr. Everything goes through here, and nothing in a string
 * reaches a terminal as a control character (text.ts).
 */
export class Terminal {
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly #stdout: Output;
  readonly #stderr: Output;
  readonly #coloured: { stdout: boolean; stderr: boolean };
  readonly #canRewrite: boolean;
  readonly #unicode: boolean;
  /** Columns of the live line; 0 if there is none. */
  readonly #warned = new Set<string>();
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

  /** Writes data for people to stdout. @throws RmError OUTPUT_FAILED (Node 20.0). */
  data(text: Text): void {
    this.#write(this.rendered('stdout', text));
  }

  /** Writes what a model has generated, or a script: every byte of it, except to a terminal. */
  verbatim(text: string): void {
    this.#write(this.#stdout.isTTY ? shownText(text) : text);
  }

  /** On a terminal: goes back to the beginning of the line `up` lines above, and replaces all from there on. */
  redraw(up: number, text: string): void {
    this.#write(`\r${up > 0 ? `\u001b[${up}A` : ''}\u001b[J${shownText(text)}`);
  }

  #write(text: string): void {
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
    this.#write(`${shownJson(value)}\n`);
  }

  /** Prints one of several objects on a line (JSON Lines). */
  jsonLine(value: unknown): void {
    this.#write(`${shownText(JSON.stringify(value))}\n`);
  }

  /** Prints something worth knowing, unless --quiet: a string as one sentence, other text in its own lines. */
  note(text: Text): void {
    if (this.quiet) return;
    this.#line(typeof text === 'string' ? this.#wrapped(shownName(withoutCredentials(text))) : text);
  }

  /** Prints a detail, only with --verbose. */
  detail(text: string): void {
    if (this.verbose) this.#line(styled('dim', withoutCredentials(text)));
  }

  /** Prints a warning, also with --quiet; each once. */
  warn(text: string): void {
    if (this.#warned.has(text)) return;
    this.#warned.add(text);
    const label = 'warning:';
    const lines = this.#wrapped(`${label} ${shownName(withoutCredentials(text))}`);
    this.#line([styled('yellow', label), lines.slice(label.length)]);
  }

  /** Prints something that the user asked for, also with --quiet: a table of --profile. */
  report(text: string): void {
    this.#line(text);
  }

  /** Prints an error, also with --quiet. */
  error(text: Text): void {
    this.#line(text);
  }

  /** Replaces the live line, cut at the terminal's width. Call it only if `isLive`. */
  live(text: Text): void {
    const width = (this.columns('stderr') ?? DEFAULT_COLUMNS) - 1;
    const plain = plainText(text);
    const fits = textWidth(plain) <= width;
    this.#stderr.write(this.#erase() + (fits ? this.rendered('stderr', text) : cutToWidth(plain, width)));
    this.#liveColumns = Math.min(width, textWidth(plain));
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

  /** A text as a stream gets it: with colours if it is a terminal and NO_COLOR is not set, or if FORCE_COLOR is set. */
  rendered(stream: 'stdout' | 'stderr', text: Text): string {
    return this.#coloured[stream] ? colouredText(text) : plainText(text);
  }

  /** Breaks prose between words; a terminal would break it anywhere. */
  #wrapped(text: string): string {
    const columns = this.columns('stderr');
    return columns === undefined ? text : wrapText(shownText(text), columns).join('\n');
  }

  #line(text: Text): void {
    this.clearLive();
    this.#stderr.write(`${this.rendered('stderr', text)}\n`);
  }
}
