import { fileURLToPath } from 'node:url';
import { CommanderError } from 'commander';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  describeFailure,
  FailedWork,
  formatFailure,
  reportFailure,
  WrongCommandLine,
} from '../../cli/terminal/failure.js';
import { plainText, styled } from '../../cli/terminal/text.js';
import { RmError } from '../../engine/errors.js';
import { formatFields, formatTable } from '../../replaceme/report/text/textTable.js';
import { recordingTerminal } from './support.js';

test('data goes to stdout, the rest to stderr', () => {
  const { terminal, stdout, stderr } = recordingTerminal();
  terminal.data('result\n');
  terminal.note('a note');
  terminal.warn('careful');
  terminal.detail('hidden');
  assert.is(stdout(), 'result\n');
  assert.is(stderr(), 'a note\nwarning: careful\n');
});

test('--quiet keeps warnings and errors, --verbose adds details', () => {
  const quiet = recordingTerminal({ quiet: true });
  quiet.terminal.note('a note');
  quiet.terminal.warn('careful');
  quiet.terminal.error('broken');
  assert.is(quiet.stderr(), 'warning: careful\nbroken\n');
  const verbose = recordingTerminal({ verbose: true });
  verbose.terminal.detail('more');
  assert.is(verbose.stderr(), 'more\n');
});

test('colour only on a terminal, and not with NO_COLOR', () => {
  const warned = (options: Parameters<typeof recordingTerminal>[0]) => {
    const { terminal, stderr } = recordingTerminal(options);
    terminal.warn('x');
    return stderr();
  };
  assert.is(warned({ isTTY: false }), 'warning: x\n');
  assert.is(warned({ isTTY: true }), '\u001b[33mwarning:\u001b[39m x\n');
  assert.is(warned({ isTTY: true, env: { NO_COLOR: '1' } }), 'warning: x\n');
  assert.is(warned({ isTTY: true, env: { TERM: 'dumb' } }), 'warning: x\n');
});

test('FORCE_COLOR has the last word', () => {
  const isStyled = (isTTY: boolean, env: Record<string, string>) =>
    recordingTerminal({ isTTY, env }).terminal.rendered('stderr', styled('bold', 'x')) !== 'x';
  assert.is(isStyled(false, { FORCE_COLOR: '1' }), true);
  assert.is(isStyled(false, { FORCE_COLOR: '1', NO_COLOR: '1' }), true);
  assert.is(isStyled(true, { FORCE_COLOR: '0' }), false);
  assert.is(isStyled(true, { NO_COLOR: '' }), true, 'an empty NO_COLOR is none');
});

test('a line is rewritten only where that works, ornaments only where they are drawn', () => {
  const able = (env: Record<string, string>, isTTY = true) => {
    const { terminal } = recordingTerminal({ isTTY, env });
    return [terminal.isLive, terminal.isUnicode];
  };
  const unicode = { LANG: 'en_GB.UTF-8' };
  if (process.platform !== 'win32') assert.equal(able({ LANG: 'C' }), [true, false]);
  assert.equal(able(unicode), [true, true]);
  assert.equal(able({ ...unicode, LC_ALL: 'C.utf8' }), [true, true]);
  assert.equal(able({ ...unicode, TERM: 'dumb' }), [false, false]);
  assert.equal(able({ ...unicode, CI: 'true' }), [false, true], 'build servers keep every state of a line');
  assert.equal(able({ ...unicode, CI: 'false' }), [true, true]);
  assert.equal(able(unicode, false), [false, false]);
});

test('a live line that a narrower window has broken into several is erased altogether', () => {
  const { terminal, stderr, resize } = recordingTerminal({ isTTY: true });
  terminal.live('x'.repeat(70));
  resize(30);
  terminal.live('y'.repeat(70));
  terminal.clearLive();
  assert.is(stderr(), `\r\u001b[K${'x'.repeat(70)}\r\u001b[2A\u001b[J${'y'.repeat(29)}\r\u001b[K`);
});

test('a live line is cut by columns, not by characters, and loses its colours where it is cut', () => {
  const { terminal, stderr, resize } = recordingTerminal({ isTTY: true });
  resize(8);
  terminal.live('模型模型模型');
  terminal.live([styled('bold', '模型'), ' ok']);
  terminal.live([styled('bold', '模型'), ' okay']);
  assert.is(stderr(), '\r\u001b[K模型模\r\u001b[K\u001b[1m模型\u001b[22m ok\r\u001b[K模型 ok');
});

test('on a terminal notes and warnings are broken between words, elsewhere they are a line', () => {
  const printed = (isTTY: boolean) => {
    const { terminal, stderr, resize } = recordingTerminal({ isTTY, env: { NO_COLOR: '1' } });
    resize(16);
    terminal.note('one two three four five');
    terminal.warn('six seven');
    return stderr();
  };
  assert.is(printed(true), 'one two three\nfour five\nwarning: six\nseven\n');
  assert.is(printed(false), 'one two three four five\nwarning: six seven\n');
});

test('JSON Lines: an object a line', () => {
  const { terminal, stdout } = recordingTerminal();
  terminal.jsonLine({ a: [1, 2] });
  assert.is(stdout(), '{"a":[1,2]}\n');
});

test('data clears a live line first', () => {
  const { terminal, stdout, stderr } = recordingTerminal({ isTTY: true });
  terminal.live('working');
  terminal.data('done\n');
  assert.is(stderr(), '\r\u001b[Kworking\r\u001b[K');
  assert.is(stdout(), 'done\n');
});

const failure = new RmError('DATA_INVALID', 'a.jsonl:3: is no\nJSON', 'Mend the line.', {
  cause: new SyntaxError('Unexpected token'),
});

test('an error is three lines: what, where, what to do; no stack', () => {
  const { terminal, stdout, stderr } = recordingTerminal();
  const where = "rm-engine eval, during 'load' at 40 %";
  assert.is(reportFailure(new FailedWork(where, failure), terminal, false), 1);
  assert.equal(stderr().split('\n'), [
    'error: a.jsonl:3: is no JSON: "Unexpected token" (DATA_INVALID)',
    `  where: ${where}`,
    '  fix: Mend the line.',
    '',
  ]);
  assert.is(stdout(), '');
});

test('a file that the message begins with is where it happened', () => {
  const { terminal } = recordingTerminal();
  const file = fileURLToPath(import.meta.url);
  const lines = (message: string) =>
    plainText(
      formatFailure({ code: 'DATA_INVALID', message, where: 'rm-engine eval', fix: 'y' }, terminal),
    ).split('\n');
  assert.equal(lines(`${file}:12: no JSON: at 3`).slice(0, 2), [
    'error: no JSON: at 3 (DATA_INVALID)',
    `  where: ${file}:12, in rm-engine eval`,
  ]);
  assert.is(lines('gone.txt: no JSON')[0], 'error: gone.txt: no JSON (DATA_INVALID)');
});

test('on a terminal an error is broken at its width, below each other', () => {
  const { terminal, resize } = recordingTerminal({ isTTY: true, env: { NO_COLOR: '1' } });
  resize(24);
  const message = 'one two three four five six';
  assert.equal(
    plainText(formatFailure({ code: 'NOT_FINITE', message, fix: 'seven eight nine ten' }, terminal)).split(
      '\n',
    ),
    [
      'error: one two three',
      '       four five six',
      '       (NOT_FINITE)',
      '  where: rm-engine',
      '  fix: seven eight nine',
      '       ten',
    ],
  );
});

test('a message that quotes a whole file is cut, and none takes long', () => {
  for (const quoted of ['x', 'a.', ' ', 'http://', 'a:/', '\n', '模\u202e'].map(text =>
    text.repeat(2e5 / text.length),
  )) {
    const { terminal, stderr } = recordingTerminal({ isTTY: true });
    const before = performance.now();
    reportFailure(new RmError('DATA_INVALID', `begins ${quoted} ends`, `Mend ${quoted}`), terminal, false);
    assert.ok(performance.now() - before < 5000, JSON.stringify(quoted.slice(0, 9)));
    assert.ok(stderr().length < 1e5);
    assert.match(stderr(), /begins/);
  }
});

test('--verbose shows the stacks of the error and of its cause', () => {
  const { terminal, stderr } = recordingTerminal({ verbose: true });
  reportFailure(new FailedWork('rm-engine eval', failure), terminal, false);
  assert.match(stderr(), /RmError: a\.jsonl:3[\s\S]*\n {4}at /);
  assert.match(stderr(), /caused by SyntaxError: Unexpected token\n {4}at /);
});

test('--json puts the error on stdout as one object', () => {
  const { terminal, stdout } = recordingTerminal();
  reportFailure(failure, terminal, true);
  const message = 'a.jsonl:3: is no JSON: "Unexpected token"';
  assert.equal(JSON.parse(stdout()), { error: { code: 'DATA_INVALID', message, fix: 'Mend the line.' } });
});

test('failures that are none of ours', () => {
  assert.is(describeFailure(new TypeError('x is not a function')).code, 'UNEXPECTED');
  assert.is(describeFailure('text').message, 'a failure that rm-engine does not expect: "text"');
  assert.is(describeFailure(new RangeError('Array buffer allocation failed')).code, 'OUT_OF_MEMORY');
});

test('a wrong command line is exit code 2 and three lines, help is 0', () => {
  const { terminal, stdout, stderr } = recordingTerminal();
  const message = "error: unknown option '--jsn'\n(Did you mean --json?)";
  const wrong = new WrongCommandLine(
    'rm-engine eval',
    new CommanderError(1, 'commander.unknownOption', message),
  );
  assert.is(reportFailure(wrong, terminal, true), 2);
  assert.equal(JSON.parse(stdout()).error, {
    code: 'USAGE',
    message: "unknown option '--jsn'",
    where: 'rm-engine eval',
    fix: 'Did you mean --json? See: rm-engine eval --help',
  });
  assert.equal(stderr().split('\n'), [
    "error: unknown option '--jsn' (USAGE)",
    '  where: rm-engine eval',
    '  fix: Did you mean --json? See: rm-engine eval --help',
    '',
  ]);
  assert.is(reportFailure(new CommanderError(0, 'commander.help', ''), terminal, false), 0);
});

test('table columns', () => {
  const columns = [{ title: 'file' }, { title: 'tokens', align: 'right' as const }, { title: 'note' }];
  assert.is(
    formatTable(columns, [
      ['a.txt', '12', ''],
      ['longer.jsonl', '3', 'ok'],
    ]),
    'file          tokens  note\na.txt             12\nlonger.jsonl       3  ok\n',
  );
  assert.is(formatTable(columns, []), 'file  tokens  note\n');
  assert.is(
    formatFields([
      ['a', '1'],
      ['long', '2'],
    ]),
    'a     1\nlong  2\n',
  );
});

test('wide characters take two columns of a table', () => {
  const columns = [{ title: 'file' }, { title: 'n', align: 'right' as const }];
  assert.is(
    formatTable(columns, [
      ['模型', '1'],
      ['model', '2'],
    ]),
    'file   n\n模型   1\nmodel  2\n',
  );
});

test.run();
