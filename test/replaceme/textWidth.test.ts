import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { cutToWidth, padEnd, padStart, textWidth, wrapText } from '../../replaceme/report/text/textWidth.js';

// Columns as Unicode's EastAsianWidth.txt and emoji-data.txt have them (W and F are two, marks none).
const widths: [text: string, width: number][] = [
  ['', 0],
  ['plain ASCII', 11],
  ['café', 4],
  ['cafe\u0301', 4],
  ['Привет ☃ ∞', 10],
  ['模型', 4],
  ['ひらがなカタカナ', 16],
  ['한국어', 6],
  ['。、「」', 8],
  ['ＡＢ￥', 6],
  ['ｱｲｳ', 3],
  ['👩‍👩‍👧 family', 9],
  ['🇨🇭', 2],
  ['❤ ❤️', 4],
  ['\u001b[1mbold\u001b[22m', 4],
  ['zero\u200bwidth', 9],
];

for (const [text, width] of widths) {
  test(`columns of ${JSON.stringify(text)}`, () => assert.is(textWidth(text), width));
}

test('padding by columns', () => {
  assert.is(padEnd('模', 4), '模  ');
  assert.is(padStart('模', 4), '  模');
  assert.is(padEnd('long', 2), 'long');
});

test('cut between characters', () => {
  assert.is(cutToWidth('模型模型', 5), '模型');
  assert.is(cutToWidth('ae\u0301b', 2), 'ae\u0301');
  assert.is(cutToWidth('plain', 3), 'pla');
  assert.is(cutToWidth('plain', -1), '');
});

test('lines are broken at spaces, long words where they must be', () => {
  assert.equal(wrapText('one two three', 7), ['one two', 'three']);
  assert.equal(wrapText('abcdefgh ij', 3), ['abc', 'def', 'gh', 'ij']);
  assert.equal(wrapText('a\n\n  b c', 4), ['a', '', '  b', 'c']);
  assert.equal(wrapText('模型模型 ab', 5), ['模型', '模型', 'ab']);
  assert.equal(wrapText('full ', 4), ['full']);
  assert.equal(wrapText('模', 1), ['模']);
  assert.equal(wrapText('', 5), ['']);
});

test.run();
