import { parse } from 'yaml';
import type { Random } from '../random.js';
import type { Mutator } from '../target.js';
import { changeJson, jsonText } from './json.js';
import { textMutator } from './text.js';

/** Each line names the one before ten times. */
const aliasBomb = (levels: number): string =>
  Array.from({ length: levels }, (_, i) =>
    i === 0 ? 'b0: &b0 [x, x]' : `b${i}: &b${i} [${new Array(10).fill(`*b${i - 1}`).join(', ')}]`,
  ).join('\n');

const snippets = (random: Random): readonly string[] => [
  ...[
    '&a [*a]',
    '*a',
    '<<: *a',
    '!!binary aaaa',
    '!!set {a}',
    '!!timestamp 2020-01-01',
    '!function x.y',
    '!!float .nan',
    '.inf',
  ],
  ...[
    '? [a, b]\n: c',
    '---\n',
    '...\n',
    '%YAML 1.3\n---\n',
    '|+9\n  text',
    '>-\n  a\n   b',
    '- - - - a',
    '\ta: b',
    '"\\x"',
    '0o17',
  ],
  ...[
    '[',
    '{',
    '{a: {',
    `${'['.repeat(random.size(14))}`,
    `${'{a: '.repeat(random.size(14))}`,
    `${'- '.repeat(random.size(13))}a`,
  ],
  ...[
    aliasBomb(2 + random.below(9)),
    '__proto__: 1',
    'toString: 1',
    '~',
    'yes',
    "''",
    '2e400',
    '12345678901234567890',
  ],
];

/**
 * Changes a YAML file: as a text with tags, anchors, bombs of aliases and deep nesting put in, or as a parsed value that is
 * written as JSON, which is YAML too.
 */
export const yamlMutator =
  (words: readonly string[]): Mutator =>
  (input, random) => {
    const text = new TextDecoder().decode(input);
    if (random.chance(0.5)) {
      try {
        return new TextEncoder().encode(jsonText(changeJson(parse(text) as never, random, words)));
      } catch {
        // An earlier change has made it something else.
      }
    }
    return textMutator([...snippets(random), ...words, '\n  ', ': ', '- '])(input, random);
  };
