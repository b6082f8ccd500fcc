// Numbers, counts and nearest words as people read them. Needs no device; costs nothing.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { didYouMean, formatNumber, formatRate, plural } from '../../engine/index.js';
import { seededRandom } from '../../engine/random.js';

test('a number has its digits and never an exponent', () => {
  assert.is(formatNumber(1234.5), '1235');
  assert.is(formatNumber(999.6), '1000');
  assert.is(formatNumber(0.0000123), '0.0000123');
  assert.is(formatNumber(-12.345, 4), '-12.35');
  assert.is(formatNumber(0), '0');
  assert.is(formatNumber(1e21), '1000000000000000000000');
  assert.is(formatNumber(Number.POSITIVE_INFINITY), 'Infinity');
  const random = seededRandom(1);
  for (let i = 0; i < 2000; i++) {
    const value = (random() - 0.5) * 10 ** Math.floor(40 * random() - 20);
    const digits = 1 + Math.floor(6 * random());
    const shown = formatNumber(value, digits);
    assert.not.match(shown, /e/);
    // Where toPrecision's digits end before the point, the rest are those of the number itself.
    const expected = Number(value.toPrecision(digits));
    const most = Math.max(
      Math.abs(expected) * 1e-12,
      Math.abs(value) >= 10 ** digits ? 0.5 + Math.abs(value - expected) : 0,
    );
    assert.ok(Math.abs(Number(shown) - expected) <= most, `${value} with ${digits} digits: ${shown}`);
  }
});

test('rates and counts', () => {
  assert.is(formatRate(12345.6, 'tokens'), '12,346 tokens/s');
  assert.is(formatRate(35.24, 'tokens'), '35.2 tokens/s');
  assert.is(formatRate(0.000001234, 'steps'), '0.00000123 steps/s');
  assert.equal(
    [0, 1, 2, 1024].map(count => plural(count, 'tensor')),
    ['0 tensors', '1 tensor', '2 tensors', '1,024 tensors'],
  );
});

test('the nearest word: slips, case, hyphens, beginnings; nothing for other words', () => {
  const methods = ['refit', 'refit-heal', 'replaceme-ls', 'replaceme-cosine', 'plain', 'transplant'];
  const cases: (readonly [word: string, meant: string])[] = [
    ...([
      ['refitt', 'refit'],
      ['reift', 'refit'],
      ['REFIT_HEAL', 'refit-heal'],
      ['plian', 'plain'],
    ] as const),
    ...([
      ['replaceme_ls', 'replaceme-ls'],
      ['replacemels', 'replaceme-ls'],
      ['transp', 'transplant'],
    ] as const),
  ];
  for (const [word, meant] of cases) assert.is(didYouMean(word, methods), `Did you mean ${meant}? `, word);
  for (const word of ['', '-', 'magic', 'x', 'completely different', 'a'.repeat(100_000)])
    assert.is(didYouMean(word, methods), '', word.slice(0, 20));
});

test.run();
