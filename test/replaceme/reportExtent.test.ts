/** How much a report measures: arithmetic, no device. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { paceOf } from '../../replaceme/pruning/measure.js';
import { chooseExtent, extentInWords, notMeasured } from '../../replaceme/run/reportExtent.js';

test('everything is measured where that takes at most a quarter of the run', () => {
  // 30 of 120 seconds.
  const fits = chooseExtent(undefined, { rest: 90, full: 30, light: 12 });
  assert.equal(fits, { extent: 'full', by: 'time', fullShare: 0.25, tokenShare: 1, leftOut: [] });
  assert.is(extentInWords(fits), undefined);
  assert.is(notMeasured(fits), '');
});

test('a report that would take more is light, and reads what a quarter of the run allows', () => {
  // 24 s of the rest are a fifth; 8 s of 32 are a quarter.
  const light = chooseExtent(undefined, { rest: 24, full: 26, light: 16 });
  assert.is(light.extent, 'light');
  assert.is(light.tokenShare, 0.5);
  assert.is((light.tokenShare * 16) / (24 + light.tokenShare * 16), 0.25);
  assert.is(light.fullShare, 0.52);
  assert.match(
    extentInWords(light)!,
    /^the report is light, without damage by layer, .* about 52 % of the run/,
  );
  assert.is(
    notMeasured(light),
    'This report is light: it has no damage by layer, samples or speeds. The texts are 50 % of what a full report reads.',
  );
  const enough = chooseExtent(undefined, { rest: 24, full: 26, light: 4 });
  assert.is(enough.tokenShare, 1, 'no more than asked for');
  const hardly = chooseExtent(undefined, { rest: 0.01, full: 26, light: 16 });
  assert.is(hardly.tokenShare, 1 / 8, 'no less than says something');
});

test('what somebody asked for is measured', () => {
  const slow = { rest: 10, full: 90, light: 60 };
  for (const asked of ['full', 'light', 'none'] as const) {
    const { extent, by } = chooseExtent(asked, slow);
    assert.equal([extent, by], [asked, 'request']);
  }
  assert.is(chooseExtent('none', slow).tokenShare, 0);
  const given = chooseExtent(undefined, slow, true);
  assert.equal([given.extent, given.tokenShare], ['light', 1], 'all of the texts that were named');
  assert.is(chooseExtent(undefined, undefined).extent, 'full', 'nothing is known of the time');
});

test('the pace is what computing took for each planned second', () => {
  const planned = [
    { name: 'load', seconds: 1 },
    { name: 'select', seconds: 4 },
    { name: 'fit', seconds: 6 },
  ] as const;
  const took = [
    { name: 'load', seconds: 9 },
    { name: 'select', seconds: 10 },
    { name: 'fit', seconds: 5 },
    { name: 'heal', seconds: 15 },
  ] as const;
  assert.is(paceOf(planned, took), 3);
  assert.is(paceOf(planned, [{ name: 'load', seconds: 9 }]), 1);
});

test.run();
