/** The time that a run still needs, against clocks that run at other paces than planned. Host code; no time at all. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type ExpectedWork, RunForecast } from '../../replaceme/run/runForecast.js';

const event = (phase: string, done: number, total: number) => ({ phase, done, total, unit: 'things' });

/** Within this factor of each other. */
function near(value: number, expected: number, factor: number): void {
  assert.ok(value > expected / factor && value < expected * factor, `${value} is far from ${expected}`);
}

const phases: ExpectedWork[] = [
  { name: 'load', seconds: 2 },
  { name: 'fit', seconds: 60 },
  { name: 'evaluate', seconds: 40 },
];

test('before anything is known: as planned', () => {
  const forecast = new RunForecast(phases);
  assert.is(forecast.secondsLeft, 102);
  forecast.begin('fit', 0);
  assert.is(forecast.secondsLeft, 100);
});

test('a run that is slower than planned, or faster', () => {
  for (const pace of [0.25, 1, 3]) {
    const forecast = new RunForecast(phases);
    forecast.begin('fit', 0);
    for (let done = 1; done <= 10; done++) {
      forecast.observe(event('fit', done, 10), 6 * pace * done);
      // The plan counts as a tenth of the work.
      if (done >= 3) near(forecast.secondsLeft, pace * (100 - 6 * done), 1.5);
    }
    forecast.begin('evaluate', 60 * pace);
    near(forecast.secondsLeft, 40 * pace, 1.3);
  }
});

test('work within the outermost work does not count', () => {
  const forecast = new RunForecast(phases);
  forecast.begin('fit', 0);
  forecast.observe(event('fit', 0, 2), 0);
  forecast.observe(event('a layer', 9, 10), 3);
  assert.is(forecast.secondsLeft, 100);
});

test('parts of a phase, of which one comes twice', () => {
  const parts = [
    { name: 'map', seconds: 30 },
    { name: 'score', seconds: 10 },
    { name: 'score', seconds: 20 },
  ];
  const forecast = new RunForecast([{ name: 'select', seconds: 60, parts }]);
  forecast.begin('select', 0);
  const leftAt = (second: number, ...progress: Parameters<typeof event>) => {
    forecast.observe(event(...progress), second);
    return Math.round(forecast.secondsLeft);
  };
  assert.equal(
    [
      leftAt(15, 'map', 1, 2),
      leftAt(30, 'map', 2, 2),
      leftAt(35, 'score', 5, 10),
      leftAt(40, 'score', 10, 10),
      leftAt(50, 'score', 5, 10),
    ],
    [45, 30, 25, 20, 10],
  );
});

test('a resumed run is measured by what it does itself', () => {
  const forecast = new RunForecast(phases);
  // An earlier process has finished this; it takes no time and reports nothing.
  forecast.begin('load', 0);
  forecast.begin('fit', 0.1);
  forecast.observe(event('fit', 8, 10), 0.1);
  forecast.observe(event('fit', 9, 10), 6.1);
  near(forecast.secondsLeft, 46, 1.6);
  forecast.observe(event('fit', 10, 10), 12.1);
  forecast.begin('evaluate', 12.1);
  near(forecast.secondsLeft, 40, 1.6);
});

test('what was not planned takes no part', () => {
  const forecast = new RunForecast([]);
  forecast.begin('heal', 0);
  forecast.observe(event('heal', 1, 2), 5);
  assert.is(forecast.secondsLeft, 0);
});

test.run();
