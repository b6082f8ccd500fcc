import { shownName, shownText } from '../../replaceme/report/text/shownText.js';
import { cutToWidth, padEnd, wrapText } from '../../replaceme/report/text/textWidth.js';
import type { Terminal } from '../terminal/terminal.js';
import { styled } from '../terminal/text.js';

interface TwoColumnsOptions {
  /** Width of the terminal. */
  readonly columns: number;
  /** Height of the terminal. */
  readonly rows: number;
  /** The character between the columns, one column wide. */
  readonly rule: string;
  /** The title above each column. */
  readonly titles: readonly string[];
  readonly terminal: Pick<Terminal, 'data' | 'redraw'>;
}

/**
 * Two texts that grow side by side on a terminal. Rows that can no longer change are written once; the rows below are
 * rewritten in place, at most as many as the terminal shows. A text that is further ahead waits for the other.
 */
export class TwoColumns {
  readonly #options: TwoColumnsOptions;
  readonly #width: number;
  readonly #texts = ['', ''];
  readonly #ended = [false, false];
  /** Number of rows that are final. */
  #written = 0;
  /** Number of rows on the screen below the final ones. */
  #drawn = 0;

  constructor(options: TwoColumnsOptions) {
    this.#options = options;
    this.#width = Math.floor((options.columns - 4) / 2);
    const [left = '', right = ''] = options.titles.map(name => cutToWidth(shownName(name), this.#width));
    options.terminal.data([styled('dim', `${padEnd(left, this.#width)} ${options.rule} ${right}`), '\n']);
  }

  /** Appends to the text of a side. */
  add(side: number, piece: string): void {
    // Here, so that lines are wrapped as they are shown.
    this.#texts[side] += shownText(piece).replaceAll('\t', ' ');
    this.#render();
  }

  /** Ends the text of a side. */
  end(side: number): void {
    this.#ended[side] = true;
    this.#render();
    if (this.#ended.every(Boolean)) this.#options.terminal.data('\n');
  }

  #render(): void {
    const { terminal, rows, rule } = this.#options;
    const sides = this.#texts.map(text => wrapText(text, this.#width));
    const total = Math.max(...sides.map(({ length }) => length));
    // The last line of a growing text may still change.
    const final = Math.min(
      ...sides.map(({ length }, side) => (this.#ended[side] ? Number.POSITIVE_INFINITY : length - 1)),
    );
    const row = (at: number): string => {
      const [left = '', right = ''] = sides.map(lines => cutToWidth(lines[at] ?? '', this.#width));
      return `${padEnd(left, this.#width)} ${rule} ${right}`.trimEnd();
    };
    const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => row(from + i));
    // The very last row stays open until the end: rather a line end too few than one too many.
    const written = Math.max(this.#written, Math.min(final, total - 1));
    const shown = Math.min(total, written + Math.max(2, rows - 2));
    terminal.redraw(Math.max(0, this.#drawn - 1), range(this.#written, shown).join('\n'));
    this.#drawn = shown - written;
    this.#written = written;
  }
}
