import { InvalidArgumentError } from 'commander';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  byteCount,
  each,
  notNegative,
  oneOf,
  type Parser,
  parserOf,
  positive,
  probability,
  wholeNumber,
} from '../../cli/options/optionTypes.js';
import * as types from '../../replaceme/options/valueTypes.js';

const [share, unitNumber, layerList] = [
  parserOf(types.share),
  parserOf(types.unitNumber),
  parserOf(types.layerList),
];

function refuses(parser: Parser<unknown>, ...texts: string[]): void {
  for (const text of texts) {
    assert.throws(
      () => parser(text),
      (error: unknown) => error instanceof InvalidArgumentError && /^Give .*\.$/.test(error.message),
      `'${text}'`,
    );
  }
}

test('whole numbers', () => {
  assert.is(wholeNumber(0)('0'), 0);
  assert.is(wholeNumber(1)('7'), 7);
  assert.is(wholeNumber(1)('1e3'), 1000);
  const units: (readonly [string, number])[] = [
    ...([
      ['4k', 4000],
      ['4K', 4000],
      ['4.1k', 4100],
      ['1.5M', 1.5e6],
      ['2B', 2e9],
      ['1e2k', 1e5],
    ] as const),
    ...([
      ['3 k', 3000],
      ['1G', 1e9],
      ['1T', 1e12],
      ['1e5', 100_000],
    ] as const),
  ];
  for (const [text, value] of units) assert.is(wholeNumber(1)(text), value, text);
  refuses(wholeNumber(1), '4kb', 'k', '1m', '4 k k', '1.2345k', '4,000');
  refuses(
    wholeNumber(1),
    '0',
    '-1',
    '1.5',
    '',
    ' ',
    'x',
    '7x',
    '0x10',
    'Infinity',
    'NaN',
    '1e400',
    '9007199254740993',
  );
});

test('numbers of 0 or more', () => {
  assert.is(notNegative('0'), 0);
  assert.is(notNegative('1e-4'), 1e-4);
  assert.is(notNegative('.5'), 0.5);
  refuses(notNegative, '-0.1', 'abc', '', 'NaN');
});

test('shares, also as a percentage', () => {
  assert.is(share('0.25'), 0.25);
  assert.is(share('25%'), 0.25);
  assert.is(share('12.5 %'), 0.125);
  refuses(share, '0', '1', '25', '0%', '100%', '-1%', '%', 'half');
});

test('number types under the names of PyTorch too', () => {
  const dtype = parserOf(types.weightDtype);
  for (const name of ['bf16', 'BF16', 'bfloat16', 'torch.bfloat16']) assert.is(dtype(name), 'bf16');
  for (const name of ['f16', 'float16', 'fp16', 'half']) assert.is(dtype(name), 'f16');
  for (const name of ['f32', 'float32', 'fp32', 'float', 'torch.float32']) assert.is(dtype(name), 'f32');
  refuses(dtype, 'float64', 'torch.int8', 'toString', '');
});

test('probabilities include 1', () => {
  assert.is(probability('1'), 1);
  assert.is(probability('0.9'), 0.9);
  refuses(probability, '0', '1.1', '-0.5');
});

test('bytes in decimal and binary units', () => {
  assert.is(byteCount('1000000'), 1_000_000);
  assert.is(byteCount('600MB'), 600e6);
  assert.is(byteCount('600 m'), 600e6);
  assert.is(byteCount('2GiB'), 2 * 2 ** 30);
  assert.is(byteCount('1.5gb'), 1.5e9);
  assert.is(byteCount('16GB'), 16e9);
  assert.is(byteCount('1e9'), 1e9);
  assert.is(byteCount('4.1kB'), 4100);
  assert.is(byteCount('100b'), 100);
  refuses(byteCount, '1iB', 'GB', '1 GBB');
  assert.is(byteCount('512KiB'), 512 * 1024);
  refuses(byteCount, '', 'GB', '-1GB', '2 GiX', '1 iB', '0', '0MB', '99999999TB');
});

test('one of a few words', () => {
  const colour = oneOf('red', 'blue');
  assert.is(colour('red'), 'red');
  refuses(colour, 'green', 'Red', '');
});

test('numbers above 0, and from 0 to 1', () => {
  assert.is(positive('1e-4'), 1e-4);
  refuses(positive, '0', '-1', 'x', '');
  assert.equal(['0', '0.5', '1'].map(unitNumber), [0, 0.5, 1]);
  refuses(unitNumber, '-0.1', '1.1', '50%');
});

test('layers, single and from first to last', () => {
  assert.equal(layerList('7'), [7]);
  assert.equal(layerList('12..15'), [12, 13, 14, 15]);
  assert.equal(layerList('3, 5,0..1 ,4..4'), [3, 5, 0, 1, 4]);
  refuses(layerList, '', '5..3', '1..', '..2', '1-3', '1,', '-1', '1.5', '1...3', '10000', 'x');
});

test('options that take several values', () => {
  const parse = each(positive);
  assert.equal(parse('2', parse('1')), [1, 2]);
  refuses(parse, '0');
});

test.run();
