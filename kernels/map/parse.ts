import { RmError } from '../../engine/index.js';

/** A part of an expression; `at` is the place of its first character. */
export type Node =
  | { kind: 'number'; value: number; at: number }
  | { kind: 'name'; name: string; at: number }
  | { kind: 'call'; name: string; args: Node[]; at: number }
  | { kind: 'unary'; op: '-' | '!'; of: Node; at: number }
  | { kind: 'binary'; op: string; left: Node; right: Node; at: number }
  | { kind: 'choice'; condition: Node; yes: Node; no: Node; at: number };

/** Longest text and deepest nesting of an expression: a driver's compiler has limits too, and does not tell them. */
const LONGEST = 2000;
const DEEPEST = 64;

/** An error of an expression, which shows the place. */
export function wrongExpression(
  kernel: string,
  text: string,
  at: number,
  what: string,
  fix = 'Correct the expression.',
): RmError {
  // Texts on several lines are shown on one.
  const line = text.replaceAll(/\s/g, ' ');
  const from = Math.max(0, at - 60);
  const shown = line.slice(from, at + 40);
  return new RmError(
    'INVALID_ARGUMENT',
    `${kernel}: ${what}, at character ${at + 1} of the expression\n  ${shown}\n  ${' '.repeat(at - from)}^`,
    fix,
  );
}

const token =
  /\s*(?:(?<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?<name>[A-Za-z_][A-Za-z0-9_]*)|(?<sign>\*\*|<=|>=|==|!=|&&|\|\||[-+*/%<>!?:(),]))/y;

interface Token {
  readonly kind: 'number' | 'name' | 'sign' | 'end';
  readonly text: string;
  readonly at: number;
}

function tokensOf(kernel: string, text: string): Token[] {
  const tokens: Token[] = [];
  const end = text.trimEnd().length;
  token.lastIndex = 0;
  for (let at = 0; at < end; ) {
    const found = token.exec(text);
    if (!found) {
      const wrong = at + (/\S/.exec(text.slice(at))?.index ?? 0);
      throw wrongExpression(kernel, text, wrong, `'${text[wrong]}' is nothing that an expression has`);
    }
    const { number, name, sign } = found.groups!;
    const part = (number ?? name ?? sign)!;
    at = token.lastIndex;
    const kind = number !== undefined ? 'number' : name !== undefined ? 'name' : 'sign';
    tokens.push({ kind, text: part, at: at - part.length });
  }
  return [...tokens, { kind: 'end', text: '', at: end }];
}

/** Operators with two operands, the weakest first; those of a row are taken from the left. */
const levels = [['||'], ['&&'], ['<', '<=', '>', '>=', '==', '!='], ['+', '-'], ['*', '/', '%']] as const;
const COMPARISONS = 2;

class Parser {
  #next = 0;
  #depth = 0;
  readonly #tokens: readonly Token[];

  constructor(
    private readonly kernel: string,
    private readonly text: string,
  ) {
    this.#tokens = tokensOf(kernel, text);
  }

  whole(): Node {
    const node = this.#choice();
    const rest = this.#peek();
    if (rest.kind !== 'end') throw this.#wrong(rest.at, `'${rest.text}' does not continue what is before it`);
    return node;
  }

  #peek(): Token {
    return this.#tokens[this.#next]!;
  }

  /** Takes the next token if it is this sign. */
  #takes(sign: string): Token | undefined {
    const found = this.#peek();
    if (found.kind !== 'sign' || found.text !== sign) return undefined;
    this.#next++;
    return found;
  }

  #needs(sign: string, after: Token): void {
    if (this.#takes(sign)) return;
    const { at } = this.#peek();
    throw this.#wrong(at, `'${sign}' is missing for '${after.text}' at character ${after.at + 1}`);
  }

  #wrong(at: number, what: string): RmError {
    return wrongExpression(this.kernel, this.text, at, what);
  }

  #choice(): Node {
    if (++this.#depth > DEEPEST)
      throw this.#wrong(this.#peek().at, `more than ${DEEPEST} parts within each other`);
    let node = this.#binary(0);
    const question = this.#takes('?');
    if (question) {
      const yes = this.#choice();
      this.#needs(':', question);
      node = { kind: 'choice', condition: node, yes, no: this.#choice(), at: node.at };
    }
    this.#depth--;
    return node;
  }

  #binary(level: number): Node {
    const ops: readonly string[] | undefined = levels[level];
    if (!ops) return this.#unary();
    let left = this.#binary(level + 1);
    for (let count = 0; ; count++) {
      const { kind, text, at } = this.#peek();
      if (kind !== 'sign' || !ops.includes(text)) return left;
      if (level === COMPARISONS && count > 0)
        throw this.#wrong(at, `'${text}' compares the result of a comparison`);
      this.#next++;
      left = { kind: 'binary', op: text, left, right: this.#binary(level + 1), at };
    }
  }

  #unary(): Node {
    const { at } = this.#peek();
    const op = this.#takes('-') ? '-' : this.#takes('!') ? '!' : undefined;
    if (!op && !this.#takes('+')) return this.#power();
    if (++this.#depth > DEEPEST) throw this.#wrong(at, `more than ${DEEPEST} parts within each other`);
    const of = this.#unary();
    this.#depth--;
    return op ? { kind: 'unary', op, of, at } : of;
  }

  #power(): Node {
    const base = this.#single();
    const sign = this.#takes('**');
    return sign ? { kind: 'binary', op: '**', left: base, right: this.#unary(), at: sign.at } : base;
  }

  #single(): Node {
    const first = this.#peek();
    this.#next++;
    if (first.kind === 'number') return { kind: 'number', value: Number(first.text), at: first.at };
    if (first.kind === 'name') {
      if (!this.#takes('(')) return { kind: 'name', name: first.text, at: first.at };
      const args = [this.#choice()];
      while (this.#takes(',')) args.push(this.#choice());
      this.#needs(')', first);
      return { kind: 'call', name: first.text, args, at: first.at };
    }
    if (first.text === '(' && first.kind === 'sign') {
      const node = this.#choice();
      this.#needs(')', first);
      return node;
    }
    const what =
      first.kind === 'end'
        ? 'something is missing at the end'
        : `'${first.text}' stands where a value should`;
    throw this.#wrong(first.at, what);
  }
}

/** Reads an expression. @throws RmError INVALID_ARGUMENT with the place. */
export function parseExpression(kernel: string, text: unknown): Node {
  if (typeof text !== 'string' || text.trim() === '')
    throw new RmError(
      'INVALID_ARGUMENT',
      `${kernel}: the expression is ${typeof text === 'string' ? 'empty' : typeof text}`,
      "Pass a text such as 'x + y'.",
    );
  if (text.length > LONGEST)
    throw wrongExpression(kernel, text, LONGEST, `more than ${LONGEST} characters`, 'Compute it in parts.');
  return new Parser(kernel, text).whole();
}
