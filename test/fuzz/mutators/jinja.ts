import type { Random } from '../random.js';
import type { Mutator } from '../target.js';
import { oddTexts, textMutator } from './text.js';

const names = [
  'messages',
  'message',
  'x',
  'y',
  'ns.a',
  'loop.index',
  'bos_token',
  'add_generation_prompt',
  'row',
];
const filters = [
  ...[
    'length',
    'trim',
    'upper',
    'lower',
    'tojson',
    'tojson(indent=4)',
    'list',
    'string',
    'int',
    'float',
    'abs',
  ],
  ...[
    'join(",")',
    'join',
    'first',
    'last',
    'sort',
    'reverse',
    'unique',
    'items',
    'safe',
    'capitalize',
    'title',
  ],
  ...['map("upper")', 'map(attribute="role")', 'select("string")', 'selectattr("role", "equalto", "user")'],
  ...[
    'rejectattr("content")',
    'replace("a", "aaaaaaaa")',
    'indent(1000000)',
    'default("d")',
    'batch(2)',
    'groupby("role")',
  ],
  ...[
    'center(100000000)',
    'round(400)',
    'truncate(3)',
    'wordwrap(0)',
    'format(1)',
    'dictsort',
    'slice(0)',
    'sum',
    'nothing',
  ],
];
const methods = [
  ...[
    'strip()',
    'split(",")',
    'split()',
    'upper()',
    'items()',
    'keys()',
    'get("role")',
    'startswith("a")',
    'lstrip("x")',
  ],
  ...[
    'replace("", "aaaa")',
    'join(messages)',
    'append(x)',
    'format(1)',
    'title()',
    'constructor',
    '__proto__',
    'rsplit("a", 1)',
  ],
  ...['ljust(100000000)', 'zfill(100000000)', 'center(1e9)', 'splitlines()', '__class__.__mro__', 'pop()'],
];
const tests = [
  'defined',
  'none',
  'string',
  'mapping',
  'iterable',
  'number',
  'odd',
  'divisibleby(0)',
  'equalto(1)',
  'in x',
  'nothing',
];
const numbers = [
  '0',
  '1',
  '-1',
  '2',
  '7',
  '1000',
  '100000',
  '1000000000',
  '1e308',
  '0.5',
  '99999999999999999999',
];
const operators = ['+', '-', '*', '/', '//', '%', '**', '~', '==', '<', 'and', 'or', 'in', 'not in'];

function expression(random: Random, depth: number): string {
  const inner = () => expression(random, depth - 1);
  if (depth <= 0) {
    return random.pick([
      () => random.pick(names),
      () => random.pick(numbers),
      () => JSON.stringify(random.pick(oddTexts.filter(text => text.length < 100))),
      () => random.pick(['[]', '{}', 'none', 'true', "'a'", '[1, 2]', "{'a': 1}"]),
    ])();
  }
  return random.pick([
    () => `${inner()} ${random.pick(operators)} ${inner()}`,
    () => `(${inner()}) | ${random.pick(filters)}`,
    () => `(${inner()}).${random.pick(methods)}`,
    () => `${inner()} is ${random.pick(tests)}`,
    () => `range(${inner()})`,
    () => `range(${random.pick(numbers)}) | list`,
    () => `${inner()}[${inner()}]`,
    () => `(${inner()})[::-1]`,
    () => `(${inner()} if ${inner()} else ${inner()})`,
    () => `[${inner()}, ${inner()}]`,
    () => `{'k': ${inner()}}`,
    () => `namespace(a=${inner()})`,
    () => `m(${inner()})`,
    () => `raise_exception(${inner()})`,
    () => `strftime_now(${inner()})`,
    () => `'a' * ${random.pick(numbers)}`,
    () => '('.repeat(random.size(14)) + inner(),
  ])();
}

function statement(random: Random, depth: number): string {
  const value = () => expression(random, 1 + random.below(3));
  const body = () => statements(random, depth - 1);
  if (depth <= 0) return `{{ ${value()} }}`;
  return random.pick([
    () => `{{ ${value()} }}`,
    () => `{% for x in ${value()} %}${body()}{% endfor %}`,
    () => `{% for x in range(${random.pick(numbers)}) %}${body()}{% endfor %}`,
    () => `{% for x in messages recursive %}{{ loop(messages) }}{% endfor %}`,
    () => `{% for x in messages if ${value()} %}${body()}{% else %}${body()}{% endfor %}`,
    () => `{% if ${value()} %}${body()}{% elif ${value()} %}${body()}{% endif %}`,
    () => `{% set x = ${value()} %}`,
    () => `{% set x = x ~ x %}`,
    () => `{% set ns.a = ns.a ~ ns.a ~ 'a' %}`,
    () => `{% set x %}${body()}{% endset %}`,
    () => `{% macro m(y) %}${body()}{{ m(y) }}{% endmacro %}`,
    () => `{% macro m(y='a') %}${body()}{% endmacro %}{{ m(${value()}) }}`,
    () => `{% call m(1) %}${body()}{% endcall %}`,
    () => `{% filter ${random.pick(filters)} %}${body()}{% endfilter %}`,
    () => `{%- generation -%}${body()}{%- endgeneration -%}`,
    () =>
      random.pick([
        '{% break %}',
        '{% continue %}',
        '{# x #}',
        '{% raw %}{{{% endraw %}',
        '{%',
        '{{',
        '{% include "x" %}',
      ]),
    () => '{% if true %}'.repeat(random.size(12)),
  ])();
}

function statements(random: Random, depth: number): string {
  return Array.from({ length: 1 + random.below(3) }, () => statement(random, depth)).join('');
}

const mutateText = textMutator([
  ...[
    '{{ ',
    ' }}',
    '{% ',
    ' %}',
    '{%- endfor %}',
    '{% endif %}',
    'loop',
    '.items()',
    ' | tojson',
    'range(1000000000)',
  ],
  ...[
    ...filters.map(filter => ` | ${filter}`),
    ...methods.map(method => `.${method}`),
    ...operators,
    ...names,
  ],
]);

/** Changes a Jinja template as a text, or puts statements made from the language's grammar into it. */
export const mutateJinja: Mutator = (input, random) => {
  if (random.chance(0.4)) return mutateText(input, random);
  const text = new TextDecoder().decode(input);
  // Between statements, so that the rest stays valid.
  const places = [0, ...[...text.matchAll(/[%}]\}/g)].map(({ index }) => index + 2)];
  const at = random.pick(places);
  const start = random.chance(0.3) ? '{% set ns = namespace(a="a") %}' : '';
  return new TextEncoder().encode(
    start + text.slice(0, at) + statements(random, random.below(4)) + text.slice(at),
  );
};
