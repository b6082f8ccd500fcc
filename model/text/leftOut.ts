import type { LeftOut } from './documents.js';

/** How many rows of a file were read and left out. */
export interface LeftOutRows {
  /** Rows without text. */
  readonly empty: number;
  /** Rows that could not be used. */
  readonly invalid: number;
  /** What is wrong with the first of these. */
  readonly firstInvalid?: string;
}

/** Counts the rows that `readDocuments` and the chat template leave out. */
export class LeftOutCount {
  #empty = 0;
  #invalid = 0;
  #first: string | undefined;

  readonly add = ({ problem }: LeftOut): void => {
    if (problem) this.#invalid++;
    else this.#empty++;
    this.#first ??= problem?.message;
  };

  /** The rows so far; undefined where there are none. */
  get rows(): LeftOutRows | undefined {
    if (this.#empty + this.#invalid === 0) return undefined;
    return {
      empty: this.#empty,
      invalid: this.#invalid,
      ...(this.#first !== undefined && { firstInvalid: this.#first }),
    };
  }
}

const countOf = (rows: number, what: string): string =>
  rows === 1 ? `1 row ${what} was left out` : `${rows.toLocaleString('en')} rows ${what} were left out`;

/** Sentences about the rows that were left out, for the end of a run. */
export const leftOutWarnings = (
  files: readonly { readonly file: string; readonly leftOut?: LeftOutRows }[],
): string[] =>
  files.flatMap(({ file, leftOut }) => {
    if (!leftOut) return [];
    const { empty, invalid, firstInvalid } = leftOut;
    return [
      ...(invalid > 0
        ? [`${file}: ${countOf(invalid, 'that cannot be used')}, the first: ${firstInvalid}`]
        : []),
      ...(empty > 0 ? [`${file}: ${countOf(empty, 'without text')}`] : []),
    ];
  });
