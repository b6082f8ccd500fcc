// Forms, seals and bounded JSON: what is believed of a file. Costs 0.2 s.
import { createHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  brokenSeal,
  entryOf,
  type Form,
  finite,
  listOf,
  MOST_LEVELS,
  oneOf,
  optional,
  orNull,
  parseJsonText,
  RmError,
  reasonOf,
  record,
  sealed,
  tableOf,
  text,
  whole,
} from '../../engine/index.js';

const form = record({
  name: text,
  layers: listOf(whole(0, 5), 1, 3),
  share: optional(finite(0, 1)),
  note: orNull(oneOf('a', 'b')),
  table: tableOf(finite()),
});
const good = { name: 'x', layers: [0, 5], note: null, table: { constructor: 1 } };

test('a form names the first place that differs', () => {
  assert.is(form(good, ''), undefined);
  assert.is(form({ ...good, more: 1, share: 0.5, note: 'b' }, ''), undefined);
  const cases: [unknown, RegExp][] = [
    [null, /^it is null, not an object$/],
    [[], /a list of 0, not an object/],
    [{ ...good, name: undefined }, /^name is missing, not a text$/],
    [{ ...good, layers: [] }, /^layers is a list of 0, not of from 1 up to 3 items$/],
    [{ ...good, layers: [1, 6] }, /^layers\[1\] is 6, not a whole number from 0 up to 5$/],
    [{ ...good, layers: [1.5] }, /layers\[0\] is 1\.5/],
    [{ ...good, layers: { length: 1, 0: 1 } }, /an object, not a list/],
    [{ ...good, share: Number.NaN }, /share is NaN/],
    [{ ...good, share: '0.5' }, /share is "0\.5"/],
    [{ ...good, note: 'c' }, /^note is "c", not one of "a", "b"$/],
    [{ ...good, table: { b: Number.POSITIVE_INFINITY } }, /table\.b is Infinity/],
    [{ ...good, table: JSON.parse('{"__proto__": 1}') }, /table\.__proto__ is no name/],
  ];
  for (const [value, words] of cases) assert.match(form(value, '') ?? 'none', words);
});

test('inherited names are no fields', () => {
  const inherited: Form<unknown> = record({ toString: text, constructor: text });
  assert.match(inherited({}, '')!, /toString is missing/);
  for (const name of ['toString', 'constructor', '__proto__', 'hasOwnProperty']) {
    assert.is(entryOf({ own: 1 } as Record<string, number>, name), undefined);
  }
  assert.is(entryOf({ own: 1 }, 'own'), 1);
});

test('a seal is the SHA-256 of the JSON before it, and any change breaks it', () => {
  const value = { b: [1, 2.5, 'é'], 1: null, a: { c: true } };
  const written = JSON.parse(JSON.stringify(sealed(value), null, 2));
  const expected = createHash('sha256').update('{"1":null,"b":[1,2.5,"é"],"a":{"c":true}}').digest('hex');
  assert.is(written.sha256, expected);
  assert.is(brokenSeal(written), undefined);
  for (const changed of [
    { ...written, a: { c: false } },
    { ...written, more: 1 },
    { ...written, b: [2.5, 1, 'é'] },
    { ...written, sha256: expected.toUpperCase() },
    Object.fromEntries(Object.entries(written).filter(([key]) => key !== 'a')),
  ]) {
    assert.match(brokenSeal(changed) ?? 'none', /does not match its "sha256"/);
  }
  assert.match(brokenSeal(value) ?? 'none', /has no "sha256"/);
  for (const value of [null, 3, [written]]) assert.match(brokenSeal(value) ?? 'none', /not an object/);
});

test('JSON has a limit of levels; brackets within texts do not count', () => {
  const nested = (levels: number) => `${'['.repeat(levels)}1${']'.repeat(levels)}`;
  assert.ok(parseJsonText(nested(MOST_LEVELS)));
  for (const levels of [MOST_LEVELS + 1, 100_000, 3_000_000]) {
    assert.throws(() => parseJsonText(nested(levels)), /more than 500 levels/);
  }
  assert.throws(() => parseJsonText('{"a":'.repeat(5000)), /more than 500 levels/);
  for (const texts of [
    ['['.repeat(999), '\\"['.repeat(400), '\\\\'],
    ['\\', '"', '{'.repeat(999)],
  ]) {
    assert.equal(parseJsonText(JSON.stringify(texts)), texts);
  }
  for (const broken of ['', '"', '"\\', '["a', ']]]]', '{"a" 1}']) {
    assert.throws(
      () => parseJsonText(broken),
      (error: Error) => error instanceof SyntaxError,
    );
  }
});

test("a reason is in our words for the system's errors, in quotes and on one line for a library's", () => {
  const system = (code: string) => Object.assign(new Error(`${code}: open '/secret'`), { code });
  assert.is(reasonOf(system('EACCES')), 'permission denied');
  assert.is(reasonOf(system('constructor')), `"constructor: open '/secret'"`);
  assert.is(reasonOf(new Error('Unexpected "x"\n  at line 3\n')), `"Unexpected 'x'"`);
  assert.is(reasonOf(new Error('x'.repeat(999))).length, 205);
  assert.is(reasonOf(new RmError('DATA_INVALID', 'a: is damaged', 'Repair it.')), 'a: is damaged');
  for (const odd of [undefined, null, '', {}, new Error('')]) assert.type(reasonOf(odd), 'string');
  assert.is(reasonOf('thrown text'), '"thrown text"');
});

test.run();
