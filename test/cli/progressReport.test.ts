import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatClock, formatProgress } from '../../cli/terminal/progressLine.js';
import { type ProgressReport, progressReport } from '../../cli/terminal/progressReport.js';
import { colouredText, plainText } from '../../cli/terminal/text.js';
import { formatSeconds } from '../../engine/format.js';
import type { ProgressEvent } from '../../engine/progress.js';
import { recordingTerminal } from './support.js';

const event = (done: number, phase = 'evaluate', total = 1000) => ({ phase, done, total, unit: 'tokens' });

/** An event of a step with a name. */
const inStep = (
  done: number,
  {
    phase = 'candidates',
    total = 6,
    unit = 'candidates',
    index = 2,
    name = 'select',
    left = 60,
    ended = false,
  } = {},
): ProgressEvent => ({
  ...{ phase, done, total, unit },
  step: { index, of: 5, name, secondsLeft: left, ...(ended && { done: true as const }) },
});

const progressLine = (
  event: ProgressEvent,
  [elapsed, left]: readonly [number, number?],
  look: Parameters<typeof formatProgress>[1] = {},
): string => plainText(formatProgress({ event, elapsed, left }, look));

/** A report whose seconds and ticks the test makes. */
function testReport(options: Parameters<typeof recordingTerminal>[0] = {}, signal?: AbortSignal) {
  const { terminal, stderr } = recordingTerminal(options);
  let now = 0;
  const ticks: (() => void)[] = [];
  const clock = {
    now: () => now * 1000,
    every: (_: number, tick: () => void) => {
      ticks.push(tick);
      return () => void ticks.pop();
    },
  };
  const report = progressReport(terminal, signal, clock);
  return {
    report,
    stderr,
    at(second: number, event?: ProgressEvent) {
      now = second;
      if (event) report(event);
      else for (const tick of ticks) tick();
    },
    ticks,
  };
}

test('seconds in words', () => {
  assert.is(formatSeconds(0.04), '0.0 s');
  assert.is(formatSeconds(9.94), '9.9 s');
  assert.is(formatSeconds(9.96), '10 s');
  assert.is(formatSeconds(59.6), '1 min 0 s');
  assert.is(formatSeconds(75), '1 min 15 s');
  assert.is(formatSeconds(3600 * 2 + 60 * 5 + 3), '2 h 5 min');
  assert.is(formatSeconds(Number.NaN), 'unknown time');
});

test('a time as a clock shows it', () => {
  assert.equal([0, 9.9, 130, 3599, 3725].map(formatClock), ['0:00', '0:09', '2:10', '59:59', '1:02:05']);
});

test('share, amount, rate and time left of a phase by itself', () => {
  assert.is(
    progressLine(event(250), [5, 15]),
    'evaluate, 25 %, 250 of 1000 tokens, 50 tokens/s, 0:05 elapsed, about 0:15 left',
  );
  assert.is(
    progressLine({ phase: 'load', done: 2 ** 20, total: 2 ** 22, unit: 'bytes' }, [2]),
    'load, 25 %, 1.00 MiB of 4.00 MiB, 512 KiB/s, 0:02 elapsed',
  );
  assert.is(
    progressLine(event(7, 'read', 0), [2]),
    'read, 7 tokens, 3.5 tokens/s, 0:02 elapsed',
    'total unknown',
  );
  assert.is(progressLine(event(0), [0]), 'evaluate, 0 %, 0 of 1000 tokens');
  assert.match(
    progressLine({ phase: 'x', done: 3, total: 9000, unit: 'steps' }, [1000, 3e6]),
    /0\.00 steps\/s/,
  );
});

test('a step with a name: what is being done, and the time of the whole run', () => {
  assert.is(
    progressLine(inStep(2), [130, 220]),
    '[2/5] select: candidate 3 of 6, 2:10 elapsed, about 3:40 left',
  );
  assert.is(
    progressLine(inStep(410, { phase: 'window map', total: 1000, unit: 'tokens' }), [130, 217]),
    '[2/5] select: window map 41 %, 2:10 elapsed, about 3:40 left',
  );
  assert.is(
    progressLine(inStep(3, { phase: 'fit', name: 'fit', unit: 'layers' }), [61, 4]),
    '[2/5] fit: layer 4 of 6, 1:01 elapsed, about 0:04 left',
  );
  assert.is(
    progressLine(inStep(0, { total: 0, phase: 'select' }), [5]),
    '[2/5] select, 0:05 elapsed',
    'nothing is known yet',
  );
});

test('a forecast of years is none', () => {
  assert.is(progressLine(inStep(2), [1, 1383 * 3600]), '[2/5] select: candidate 3 of 6, 0:01 elapsed');
});

test('a bar at 80 columns, with any work', () => {
  for (const shown of [
    inStep(2),
    inStep(410, { phase: 'window map', total: 1000, unit: 'tokens' }),
    event(250),
  ]) {
    const line = progressLine(shown, [4000, 5000], { columns: 79, unicode: true });
    assert.match(line, /━+╌+/);
    assert.match(line, /1:06:40 elapsed, about 1:23:00 left/);
    assert.ok([...line].length <= 79, line);
  }
});

test('what is most worth knowing stays where the terminal is narrow', () => {
  const memory = { liveBytes: 2 ** 20, limit: Number.POSITIVE_INFINITY };
  const at = (columns: number) => progressLine(event(250), [5, 15], { columns, memory, unicode: true });
  assert.is(
    at(200),
    'evaluate · ━━╌╌╌╌╌╌ · 25 % · 250 of 1000 tokens · 50 tokens/s · 0:05 elapsed, about 0:15 left · GPU 1.00 MiB',
  );
  assert.is(at(79), 'evaluate · ━━╌╌╌╌╌╌ · 25 % · 50 tokens/s · 0:05 elapsed, about 0:15 left');
  assert.is(at(50), 'evaluate · 25 % · 0:05 elapsed, about 0:15 left');
  assert.is(at(20), 'evaluate · 25 %');
  assert.is(at(3), 'evaluate', 'the terminal cuts it');
  const limited = { ...memory, limit: 2 ** 31 };
  assert.match(progressLine(event(250), [5], { memory: limited }), /GPU 1\.00 MiB of 2\.00 GiB$/);
});

test('styles take no columns', () => {
  const line = formatProgress({ event: event(250), elapsed: 0 }, { columns: 33 });
  assert.is(colouredText(line), '\u001b[1mevaluate\u001b[22m, 25 %');
});

/** Reports events at these seconds; returns the text on stderr. */
function printed(events: readonly [second: number, done: number, phase?: string][], options = {}): string {
  const { report, stderr, at } = testReport(options);
  for (const [second, done, phase] of events) at(second, event(done, phase));
  report.end(true);
  return stderr();
}

test('work under two seconds passes without a word', () => {
  const short: [number, number][] = [
    [0.5, 100],
    [1, 500],
    [1.9, 1000],
  ];
  assert.is(printed(short), '');
  assert.is(printed(short, { isTTY: true }), '');
});

test('elsewhere than on a terminal: a line every half minute, and one at the end', () => {
  const seconds = Array.from({ length: 50 }, (_, i): [number, number] => [i + 1, 20 * (i + 1)]);
  assert.equal(printed(seconds).split('\n'), [
    'evaluate, 60 %, 600 of 1000 tokens, 20 tokens/s, 0:30 elapsed, about 0:20 left',
    'evaluate            1000 tokens                  50 s  20 tokens/s',
    '',
  ]);
});

test('on a terminal: one live line, cleared at the end', () => {
  const text = printed(
    [
      [1, 100],
      [3, 300],
      [3.05, 310],
      [10, 1000],
    ],
    { isTTY: true },
  );
  assert.is(
    text,
    '\r\u001b[K\u001b[1mevaluate\u001b[22m, 30 %, 300 of 1000 tokens, 100 tokens/s, 0:03 elapsed, about 0:07 left' +
      '\r\u001b[Kevaluate            1000 tokens                  10 s  100 tokens/s\n',
  );
});

test('on a terminal the line moves between events; the time left never ends before the work', () => {
  const { at, stderr, report } = testReport({ isTTY: true });
  at(1, inStep(0, { left: 20 }));
  for (const second of [3, 4, 40]) at(second);
  const lines = stderr()
    .split('\r\u001b[K')
    .map(line => line.replaceAll('\u001b[1m', '').replaceAll('\u001b[22m', ''));
  assert.equal(lines.slice(1), [
    '[2/5] select: candidate 1 of 6, 0:03 elapsed, about 0:20 left',
    '[2/5] select: candidate 1 of 6, 0:04 elapsed, about 0:15 left',
    '[2/5] select: candidate 1 of 6, 0:40 elapsed, about 0:03 left',
  ]);
  report.end(true);
});

test('through a pipe too there is a sign of life between events, without control characters', () => {
  const { at, stderr, report } = testReport();
  at(1, inStep(2, { left: 90 }));
  for (let second = 2; second < 70; second++) at(second);
  report.end(true);
  assert.equal(stderr().split('\n'), [
    '[2/5] select: candidate 3 of 6, 0:30 elapsed, about 1:05 left',
    '[2/5] select: candidate 3 of 6, 1:00 elapsed, about 0:45 left',
    '',
  ]);
});

test('a live line is no longer than the terminal is wide', () => {
  const { terminal, stderr } = recordingTerminal({ isTTY: true });
  terminal.live('x'.repeat(200));
  assert.is(stderr(), `\r\u001b[K${'x'.repeat(79)}`);
});

test('a phase that begins far behind tells no time left at first', () => {
  const { at, stderr, report } = testReport({ isTTY: true });
  at(500, { phase: 'write', done: 10, total: 1e9, unit: 'bytes' });
  at(500.2, { phase: 'write', done: 1e6, total: 1e9, unit: 'bytes' });
  assert.not.match(stderr(), / left/);
  at(510, { phase: 'write', done: 5e8, total: 1e9, unit: 'bytes' });
  assert.match(stderr(), /about 0:10 left/);
  report.end(true);
});

test('phases are timed one by one, also where one ends early', () => {
  assert.equal(
    printed([
      [3, 500, 'load'],
      [6, 600, 'fit'],
      [8, 1000, 'fit'],
    ]).split('\n'),
    [
      'fit                 1000 tokens                 5.0 s  200 tokens/s',
      'load                 500 tokens                 8.0 s  63 tokens/s',
      '',
    ],
  );
});

test('a phase within another does not end it', () => {
  assert.equal(
    printed([
      [3, 500, 'candidates'],
      [4, 400, 'walk'],
      [6, 1000, 'walk'],
      [7, 1000, 'walk'],
      [8, 1000, 'candidates'],
    ]).split('\n'),
    [
      'walk                1000 tokens                 3.0 s  333 tokens/s',
      'candidates          1000 tokens                 8.0 s  125 tokens/s',
      '',
    ],
  );
});

/** A step with a phase in another, and the next step. */
const twoSteps = (at: (second: number, event?: ProgressEvent) => void) => {
  at(1, inStep(0));
  at(4, inStep(500, { phase: 'distances', total: 1000, unit: 'tokens' }));
  at(8, inStep(1000, { phase: 'distances', total: 1000, unit: 'tokens' }));
  at(9, inStep(6));
  at(12, inStep(0, { total: 0, phase: 'select', ended: true }));
  at(13, inStep(0, { name: 'fit', index: 3, phase: 'fit', total: 0 }));
};

test('a step with a name is one line; its phases are for --verbose', () => {
  const calm = testReport();
  twoSteps(calm.at);
  assert.is(calm.stderr(), '[2/5] select                  12 s\n');
  const verbose = testReport({ verbose: true });
  twoSteps(verbose.at);
  assert.equal(verbose.stderr().split('\n'), [
    '  distances           1000 tokens                 7.0 s  143 tokens/s',
    '  candidates             6 candidates             9.0 s',
    '[2/5] select                  12 s',
    '',
  ]);
});

test('on a terminal that draws it: a tick, a bar and the memory of the device', () => {
  const { at, report, stderr } = testReport({ isTTY: true, env: { LANG: 'C.UTF-8', NO_COLOR: '1' } });
  report.watch({ liveBytes: 2 ** 20, limit: Number.POSITIVE_INFINITY });
  at(4, event(500));
  at(8, event(1000));
  assert.is(
    stderr(),
    '\r\u001b[Kevaluate · ━━━━╌╌╌╌ · 50 % · 500 of 1000 tokens · 125 tokens/s · 0:04 elapsed\r\u001b[K' +
      '✓ evaluate            1000 tokens                 8.0 s  125 tokens/s\n',
  );
});

const unicode = { isTTY: true, env: { LANG: 'C.UTF-8', NO_COLOR: '1' } };

test('nothing that was broken off is marked as done', () => {
  const failed = testReport(unicode);
  failed.at(1, inStep(0));
  failed.at(30, inStep(2));
  failed.report.end(false);
  assert.is(
    failed.stderr().split('\r\u001b[K').at(-1),
    '[2/5] select: candidate 3 of 6, stopped after 30 s\n',
  );
  const controller = new AbortController();
  const interrupted = testReport(unicode, controller.signal);
  interrupted.at(30, event(500));
  controller.abort(new Error('interrupted'));
  assert.is(interrupted.stderr().split('\r\u001b[K').at(-1), 'evaluate, stopped after 30 s\n');
  assert.equal(interrupted.ticks, [], 'and nothing moves any more');
  interrupted.report.end(false);
  for (const { stderr } of [failed, interrupted]) assert.not.match(stderr(), /✓/);
  const early = testReport(unicode);
  early.at(30, event(500));
  early.report.end(true);
  assert.not.match(early.stderr(), /✓/, 'not all of it was done');
});

test('the same phase of another step is another phase', () => {
  const { report, at, stderr } = testReport();
  report.steps(2);
  for (const [second, done] of [
    [3, 7],
    [6, 8],
  ] as const) {
    report.nextStep();
    at(second, { phase: 'load', done, total: 9, unit: 'layers' });
  }
  report.end(true);
  assert.equal(stderr().split('\n'), [
    '[1/2] load                   7 layers                 3.0 s',
    '[2/2] load                   8 layers                 3.0 s',
    '',
  ]);
});

test('where the work is, for failures', () => {
  const report: ProgressReport = progressReport(recordingTerminal().terminal);
  assert.is(report.place(), undefined);
  report(event(414));
  assert.is(report.place(), "during 'evaluate' at 41 %");
  report(event(1000));
  assert.is(report.place(), "after 'evaluate'");
  report({ phase: 'generate', done: 5, total: 0, unit: 'tokens', step: { index: 2, of: 3 } });
  assert.is(report.place(), "during '[2/3] generate'");
  report(inStep(3));
  assert.is(report.place(), "during '[2/5] select'");
});

test('--quiet says nothing', () => {
  const seconds = Array.from({ length: 25 }, (_, i): [number, number] => [i + 1, 40 * (i + 1)]);
  assert.is(printed(seconds, { quiet: true }), '');
  assert.is(printed(seconds, { quiet: true, isTTY: true }), '');
});

test('an aborted signal ends the work at its next step', () => {
  const controller = new AbortController();
  const report = progressReport(recordingTerminal().terminal, controller.signal);
  report(event(1));
  controller.abort(new Error('interrupted'));
  assert.throws(() => report(event(2)), /interrupted/);
});

test.run();
