import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { repetition } from '../../model/generation/generationHealth.js';

test('tokens that never repeat', () => {
  assert.equal(repetition([1, 2, 3, 4, 5]), {
    repeated4grams: 0,
    distinct1: 1,
    distinct2: 1,
    longestLoop: 0,
  });
  assert.equal(repetition([]), { repeated4grams: 0, distinct1: 1, distinct2: 1, longestLoop: 0 });
});

test('one token over and over', () => {
  // 8 tokens: 5 four-grams of which 1 differs, 7 pairs.
  assert.equal(repetition(new Array(8).fill(7)), {
    repeated4grams: 1 - 1 / 5,
    distinct1: 1 / 8,
    distinct2: 1 / 7,
    longestLoop: 8,
  });
});

test('a loop within a text is counted from its first piece to its last whole token', () => {
  const loop = [1, 2, 3];
  assert.is(repetition([9, ...loop, ...loop, ...loop, 1, 8]).longestLoop, 10);
  assert.is(repetition([9, ...loop, 8, ...loop]).longestLoop, 0, 'a piece that comes back later is no loop');
  assert.is(repetition([...loop, 4, 4, 5]).longestLoop, 2);
});

test.run();
