import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { pythonLiteral } from '../../model/tasks/pythonLiteral.js';

// The values are those of Python 3.11's ast.literal_eval, tuples as lists and keys as texts.
const literals: readonly (readonly [string, unknown])[] = [
  [
    String.raw`[{'question': "It's", 'options': ['a\tb', "\"", 'c\\'], 'answer': 'A'}]`,
    [{ question: "It's", options: ['a\tb', '"', 'c\\'], answer: 'A' }],
  ],
  [`('x', -1.5e3, True, None, {'k': [1, 2,],},)`, ['x', -1500, true, null, { k: [1, 2] }]],
  [String.raw`'\u4e2d\x41\d\'é'`, "中A\\d'é"],
  ['[]', []],
  [`{1: 'one'}`, { '1': 'one' }],
  [`' nested "quotes" '`, ' nested "quotes" '],
];

test('the values of Python literals', () => {
  for (const [source, value] of literals) assert.equal(pythonLiteral(source), value, source);
});

test('anything else is refused, with the place', () => {
  for (const [source, place] of [
    ['[1, 2', /no \] at character 5/],
    ["'open", /a text has no end at character 5/],
    ['[1] 2', /something follows the value at character 4: 2/],
    ['__import__', /expected a list, text, number or constant at character 0: __import__/],
    ['{1}', /no : at character 2/],
  ] as const) {
    assert.throws(() => pythonLiteral(source), place, source);
  }
});

test.run();
