/** Parses the Python literals that occur in data sets, like ast.literal_eval; RACE stores its questions this way. */

const escapes: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  a: '\x07',
  b: '\b',
  f: '\f',
  v: '\v',
  '\n': '',
};

const constants: Readonly<Record<string, unknown>> = { True: true, False: false, None: null };

class Reader {
  #at = 0;

  constructor(private readonly source: string) {}

  whole(): unknown {
    const value = this.#value();
    this.#skipSpace();
    if (this.#at < this.source.length) this.#fail('something follows the value');
    return value;
  }

  #fail(what: string): never {
    throw new Error(
      `literal_eval: ${what} at character ${this.#at}: ${this.source.slice(this.#at, this.#at + 20)}`,
    );
  }

  #skipSpace(): void {
    this.#match(/\s*/y);
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const [text] = pattern.exec(this.source) ?? [];
    this.#at += text?.length ?? 0;
    return text;
  }

  #takes(character: string): boolean {
    this.#skipSpace();
    if (this.source[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #expect(character: string): void {
    if (!this.#takes(character)) this.#fail(`no ${character}`);
  }

  #value(): unknown {
    if (this.#takes('[')) return this.#items(']', () => this.#value());
    if (this.#takes('(')) return this.#items(')', () => this.#value());
    if (this.#takes('{')) {
      const pairs = this.#items('}', () => {
        const key = this.#value();
        this.#expect(':');
        return [String(key), this.#value()] as const;
      });
      return Object.fromEntries(pairs);
    }
    for (const quote of ["'", '"']) if (this.#takes(quote)) return this.#text(quote);
    const number = this.#match(/[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?/iy);
    if (number) return Number(number);
    const word = this.#match(/[A-Za-z]+/y);
    if (word !== undefined && Object.hasOwn(constants, word)) return constants[word];
    return this.#fail('expected a list, text, number or constant');
  }

  /** Reads items up to `end`, with or without a trailing comma. */
  #items<T>(end: string, item: () => T): T[] {
    const items: T[] = [];
    while (!this.#takes(end)) {
      items.push(item());
      if (this.#takes(',')) continue;
      this.#expect(end);
      break;
    }
    return items;
  }

  #text(quote: string): string {
    let text = '';
    for (;;) {
      text += this.#match(quote === "'" ? /[^'\\]*/y : /[^"\\]*/y) ?? '';
      const character = this.source[this.#at];
      if (character === undefined) this.#fail('a text has no end');
      this.#at++;
      if (character === quote) return text;
      const code = this.#match(/x[\da-f]{2}|u[\da-f]{4}|U[\da-f]{8}/iy);
      if (code) {
        text += String.fromCodePoint(Number.parseInt(code.slice(1), 16));
        continue;
      }
      const next = this.source[this.#at++] ?? '';
      // As in Python, a backslash stays unless a known escape, a quote or a backslash follows.
      text += escapes[next] ?? (/['"\\]/.test(next) ? next : `\\${next}`);
    }
  }
}

/**
 * Parses a Python literal: lists, tuples (as lists), dictionaries, texts, numbers, True, False, None.
 *
 * @throws Error naming the character at which the literal is invalid.
 */
export const pythonLiteral = (source: string): unknown => new Reader(source).whole();
