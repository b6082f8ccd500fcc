import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatProgress, progressReport } from '../../cli/terminal/progressReport.js';
import { colouredText, plainText } from '../../cli/terminal/text.js';
import { formatSeconds } from '../../engine/format.js';
import { recordingTerminal } from './support.js';

const event = (done: number, phase = 'evaluate', total = 1000) => ({ phase, done, total, unit: 'tokens' });

const progressLine = (...line: Parameters<typeof formatProgress>): string =>
  plainText(formatProgress(...line));

test('seconds in words', () => {
  assert.is(formatSeconds(0.04), '0.0 s');
  assert.is(formatSeconds(9.94), '9.9 s');
  assert.is(formatSeconds(9.96), '10 s');
  assert.is(formatSeconds(59.6), '1 min 0 s');
  assert.is(formatSeconds(75), '1 min 15 s');
  assert.is(formatSeconds(3600 * 2 + 60 * 5 + 3), '2 h 5 min');
  assert.is(formatSeconds(Number.NaN), 'unknown time');
});

test('share, amount, rate and time left', () => {
  assert.is(progressLine(event(250), 5), 'evaluate  25 %  250 of 1000 tokens  50 tokens/s  15 s left');
  assert.is(progressLine(event(1000), 4), 'evaluate  100 %  1000 of 1000 tokens  250 tokens/s');
  assert.is(
    progressLine({ phase: 'load', done: 2 ** 20, total: 2 ** 22, unit: 'bytes' }, 2),
    'load  25 %  1.00 MiB of 4.00 MiB  512 KiB/s  6.0 s left',
  );
  assert.is(progressLine(event(7, 'read', 0), 2), 'read  7 tokens  3.5 tokens/s', 'total unknown');
  assert.is(progressLine(event(0), 0), 'evaluate  0 %  0 of 1000 tokens');
});

test('step, memory and bar, each where it is known', () => {
  const memory = { liveBytes: 3 * 2 ** 29, limit: Number.POSITIVE_INFINITY };
  const third = { ...event(250, 'fit'), step: { index: 3, of: 5 } };
  assert.is(
    progressLine(third, 5, { memory }),
    '[3/5] fit  25 %  250 of 1000 tokens  50 tokens/s  15 s left  GPU 1.50 GiB',
  );
  assert.is(
    progressLine(third, 5, { bar: true, memory: { ...memory, limit: 2 ** 31 } }),
    '[3/5] fit  ━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  25 %  250 of 1000 tokens  50 tokens/s  15 s left  GPU 1.50 GiB of 2.00 GiB',
  );
});

test('what is least worth knowing gives way where the terminal is narrow', () => {
  const memory = { liveBytes: 2 ** 20, limit: Number.POSITIVE_INFINITY };
  const at = (columns: number) => progressLine(event(250), 5, { columns, memory, bar: true });
  const all = at(200).length;
  assert.is(at(all), at(200));
  assert.is(at(all - 1), 'evaluate  25 %  250 of 1000 tokens  50 tokens/s  15 s left  GPU 1.00 MiB');
  assert.is(at(60), 'evaluate  25 %  250 of 1000 tokens  50 tokens/s  15 s left');
  assert.is(at(50), 'evaluate  25 %  50 tokens/s  15 s left');
  assert.is(at(30), 'evaluate  25 %  15 s left');
  assert.is(at(14), 'evaluate  25 %');
  assert.is(at(3), 'evaluate', 'the terminal cuts it');
});

test('styles take no columns', () => {
  const line = formatProgress(event(250), 0, { columns: 34 });
  assert.is(colouredText(line), '\u001b[1mevaluate\u001b[22m  25 %  250 of 1000 tokens');
});

/** Reports events at these seconds; returns the text on stderr. */
function printed(events: readonly [second: number, done: number, phase?: string][], options = {}): string {
  const { terminal, stderr } = recordingTerminal(options);
  let now = 0;
  const report = progressReport(terminal, undefined, () => now * 1000);
  for (const [second, done, phase] of events) {
    now = second;
    report(event(done, phase));
  }
  report.end();
  return stderr();
}

test('work under two seconds passes without a word', () => {
  assert.is(
    printed([
      [0.5, 100],
      [1, 500],
      [1.9, 1000],
    ]),
    '',
  );
  assert.is(
    printed(
      [
        [0.5, 100],
        [1, 500],
        [1.9, 1000],
      ],
      { isTTY: true },
    ),
    '',
  );
});

test('elsewhere than on a terminal: a line every ten seconds, and one at the end', () => {
  const seconds = Array.from({ length: 25 }, (_, i): [number, number] => [i + 1, 40 * (i + 1)]);
  assert.equal(printed(seconds).split('\n'), [
    'evaluate  40 %  400 of 1000 tokens  40 tokens/s  15 s left',
    'evaluate  80 %  800 of 1000 tokens  40 tokens/s  5.0 s left',
    'evaluate            1000 tokens                  25 s  40 tokens/s',
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
    '\r\u001b[K\u001b[1mevaluate\u001b[22m  30 %  300 of 1000 tokens  100 tokens/s  7.0 s left' +
      '\r\u001b[Kevaluate            1000 tokens                  10 s  100 tokens/s\n',
  );
});

test('a live line is no longer than the terminal is wide', () => {
  const { terminal, stderr } = recordingTerminal({ isTTY: true });
  terminal.live('x'.repeat(200));
  assert.is(stderr(), `\r\u001b[K${'x'.repeat(79)}`);
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
      'load                 500 tokens                 3.0 s  167 tokens/s',
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

test('on a terminal that draws it: a tick, a bar and the memory of the device', () => {
  const { terminal, stderr } = recordingTerminal({ isTTY: true, env: { LANG: 'C.UTF-8', NO_COLOR: '1' } });
  let now = 0;
  const report = progressReport(terminal, undefined, () => now * 1000);
  report.watch({ liveBytes: 2 ** 20, limit: Number.POSITIVE_INFINITY });
  now = 4;
  report(event(500));
  now = 8;
  report(event(1000));
  assert.is(
    stderr(),
    '\r\u001b[Kevaluate  50 %  500 of 1000 tokens  125 tokens/s  4.0 s left  GPU 1.00 MiB\r\u001b[K' +
      '✓ evaluate            1000 tokens                 8.0 s  125 tokens/s\n',
  );
});

test('the same phase of another step is another phase', () => {
  const { terminal, stderr } = recordingTerminal();
  let now = 0;
  const report = progressReport(terminal, undefined, () => now * 1000);
  report.steps(2);
  for (const done of [7, 8]) {
    now += 3;
    report.nextStep();
    report({ phase: 'load', done, total: 9, unit: 'layers' });
  }
  report.end();
  assert.equal(stderr().split('\n'), [
    '[1/2] load                   7 layers                 3.0 s',
    '[2/2] load                   8 layers                 3.0 s',
    '',
  ]);
});

test('where the work is, for failures', () => {
  const report = progressReport(recordingTerminal().terminal);
  assert.is(report.place(), undefined);
  report(event(414));
  assert.is(report.place(), "during 'evaluate' at 41 %");
  report(event(1000));
  assert.is(report.place(), "after 'evaluate'");
  report({ phase: 'generate', done: 5, total: 0, unit: 'tokens', step: { index: 2, of: 3 } });
  assert.is(report.place(), "during '[2/3] generate'");
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
