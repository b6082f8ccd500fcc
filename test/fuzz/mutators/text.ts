import type { Random } from '../random.js';
import type { Mutator } from '../target.js';
import { mutateBytes } from './bytes.js';

/** Texts that programs stumble over. */
export const oddTexts: readonly string[] = [
  ...[
    '',
    ' ',
    '\n',
    '\r\n',
    '\t',
    '\0',
    '\u001b[31m',
    '\u0085',
    '\u2028',
    '\u202e',
    '\ufeff',
    '\ufffd',
    '😀',
  ],
  ...['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'length', 'then', 'null', 'NaN'],
  ...['../../outside', '/etc/passwd', 'a/b', '%s%n', `\${x}`, '$(id)', '`id`', '"', "'", '\\', '--help'],
  ...['0', '-1', '1e400', '99999999999999999999', '0x10', 'true', 'a'.repeat(300), 'é'.repeat(3000)],
];

export const oddNumbers: readonly number[] = [
  ...[0, -0, 1, -1, 2, 3, 0.5, -0.5, 7, 255, 256, 1000, 65_535, 65_536, 1e6, 1e9],
  ...[2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 2 ** 63, 1e21, 1e308, 5e-324],
];

const replaced = (text: string, begin: number, end: number, by: string): string =>
  text.slice(0, begin) + by + text.slice(end);

/** A place that `pattern` matches. */
function place(text: string, pattern: RegExp, random: Random): [begin: number, end: number] | undefined {
  const all = [...text.matchAll(pattern)];
  if (all.length === 0) return undefined;
  const { index, 0: match } = random.pick(all);
  return [index, index + match.length];
}

/**
 * Changes a text: odd texts and numbers, words of `dictionary`, lines that are gone, doubled or exchanged, now and then
 * single bytes.
 */
export const textMutator =
  (dictionary: readonly string[] = []): Mutator =>
  (input, random) => {
    if (random.chance(0.2)) return mutateBytes(input, random);
    const text = new TextDecoder().decode(input);
    const at = random.below(text.length + 1);
    const word = () =>
      dictionary.length > 0 && random.chance(0.7) ? random.pick(dictionary) : random.pick(oddTexts);
    const lines = () => text.split('\n');
    const output = random.pick([
      () => replaced(text, at, at, word()),
      () => {
        const found = place(text, /[\w.]+/g, random) ?? [at, at];
        return replaced(text, ...found, word());
      },
      () => {
        const found = place(text, /-?\d+(\.\d+)?/g, random) ?? [at, at];
        return replaced(text, ...found, `${random.pick(oddNumbers)}`);
      },
      () => lines().toSpliced(random.below(lines().length), 1).join('\n'),
      () => {
        const all = lines();
        const line = random.pick(all);
        return all.toSpliced(random.below(all.length), random.below(2), line).join('\n');
      },
      () => replaced(text, at, Math.min(text.length, at + 1 + random.size(6)), ''),
    ])();
    return new TextEncoder().encode(output);
  };
