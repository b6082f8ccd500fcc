/**
 * Finds the first of some texts in a text that arrives in pieces, and holds back what may become one of them. However the
 * text is cut into pieces, it ends before the stop string that is complete first; of several that are complete at once,
 * before the longest.
 */
export class StopStrings {
  readonly #stops: readonly string[];
  #held = '';
  #found = false;

  /** @param stops empty ones count for nothing. */
  constructor(stops: readonly string[]) {
    this.#stops = stops.filter(stop => stop !== '');
  }

  /** Whether a stop string has come; what comes after it is dropped. */
  get found(): boolean {
    return this.#found;
  }

  /** Adds a piece; returns the text that certainly stands before any stop string. */
  push(piece: string): string {
    if (this.#found) return '';
    const text = this.#held + piece;
    const ends = this.#stops
      .map(stop => ({ stop, at: text.indexOf(stop) }))
      .filter(({ at }) => at >= 0)
      .sort((a, b) => a.at + a.stop.length - (b.at + b.stop.length) || a.at - b.at);
    if (ends.length > 0) {
      this.#found = true;
      this.#held = '';
      return text.slice(0, ends[0]!.at);
    }
    const certain = text.length - this.#possible(text);
    this.#held = text.slice(certain);
    return text.slice(0, certain);
  }

  /** The text held back at the end. */
  end(): string {
    const rest = this.#held;
    this.#held = '';
    return rest;
  }

  /** How many characters at the end of a text may begin a stop string. */
  #possible(text: string): number {
    let most = 0;
    for (const stop of this.#stops) {
      for (let count = Math.min(stop.length - 1, text.length); count > most; count--) {
        if (text.endsWith(stop.slice(0, count))) most = count;
      }
    }
    return most;
  }
}
