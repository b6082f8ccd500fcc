import { cutToWidth, padEnd, wrapText } from '../../replaceme/report/text/textWidth.js';

export interface TwoColumnsOptions {
  /** Of the terminal. */
  readonly columns: number;
  readonly rows: number;
  /** Between the columns, one column wide. */
  readonly rule: string;
  /** Above each column. */
  readonly titles: readonly string[];
  /** Makes a title look like one. */
  title(text: string): string;
  write(text: string): void;
}

/** What would move the cursor; a tab is as good as a space here. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: those are meant.
const controls = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/g;

/**
 * Two texts that grow side by side on a terminal. Lines that can no longer change are written once; those below are
 * rewritten in place, at most as many as the terminal shows: what one text is further ahead waits for the other.
 */
export class TwoColumns {
  readonly #options: TwoColumnsOptions;
  readonly #width: number;
  readonly #texts = ['', ''];
  readonly #ended = [false, false];
  /** Rows that are written for good. */
  #written = 0;
  /** Rows below them that are on the screen. */
  #drawn = 0;

  constructor(options: TwoColumnsOptions) {
    this.#options = options;
    this.#width = Math.floor((options.columns - 4) / 2);
    const [left = '', right = ''] = options.titles.map(name => cutToWidth(name, this.#width));
    options.write(`${options.title(`${padEnd(left, this.#width)} ${options.rule} ${right}`)}\n`);
  }

  /** Adds to the text of a side. */
  add(side: number, piece: string): void {
    this.#texts[side] += piece.replace(controls, ' ');
    this.#render();
  }

  /** Nothing more comes on this side. */
  end(side: number): void {
    this.#ended[side] = true;
    this.#render();
    if (this.#ended.every(Boolean)) this.#options.write('\n');
  }

  #render(): void {
    const { write, rows, rule } = this.#options;
    const sides = this.#texts.map(text => wrapText(text, this.#width));
    const total = Math.max(...sides.map(({ length }) => length));
    // The last line of a text that grows may still change.
    const final = Math.min(
      ...sides.map(({ length }, side) => (this.#ended[side] ? Number.POSITIVE_INFINITY : length - 1)),
    );
    const row = (at: number): string => {
      const [left = '', right = ''] = sides.map(lines => cutToWidth(lines[at] ?? '', this.#width));
      return `${padEnd(left, this.#width)} ${rule} ${right}`.trimEnd();
    };
    const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => row(from + i));
    // The last row of all stays open until the end, so that there is one line end too few rather than too many.
    const written = Math.max(this.#written, Math.min(final, total - 1));
    const shown = Math.min(total, written + Math.max(2, rows - 2));
    const back = this.#drawn > 1 ? `\u001b[${this.#drawn - 1}A` : '';
    write(`\r${back}\u001b[J${range(this.#written, shown).join('\n')}`);
    this.#drawn = shown - written;
    this.#written = written;
  }
}
