import { CommanderError } from 'commander';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { describeFailure, reportFailure } from '../../cli/failure.js';
import { RmError } from '../../engine/errors.js';
import { formatFields, formatTable } from '../../engine/textTable.js';
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

test('an error is three lines: what, why, what to do; no stack', () => {
  const { terminal, stdout, stderr } = recordingTerminal();
  assert.is(reportFailure(failure, terminal, false), 1);
  assert.equal(stderr().split('\n'), [
    'error: a.jsonl:3: is no JSON (DATA_INVALID)',
    '  why: Unexpected token',
    '  fix: Mend the line.',
    '',
  ]);
  assert.is(stdout(), '');
});

test('--verbose shows the stacks of the error and of its cause', () => {
  const { terminal, stderr } = recordingTerminal({ verbose: true });
  reportFailure(failure, terminal, false);
  assert.match(stderr(), /RmError: a\.jsonl:3[\s\S]*\n {4}at /);
  assert.match(stderr(), /caused by SyntaxError: Unexpected token\n {4}at /);
});

test('--json puts the error on stdout as one object', () => {
  const { terminal, stdout } = recordingTerminal();
  reportFailure(failure, terminal, true);
  assert.equal(JSON.parse(stdout()), {
    error: { code: 'DATA_INVALID', message: 'a.jsonl:3: is no JSON', fix: 'Mend the line.' },
  });
});

test('without a cause the code is explained', () => {
  assert.is(
    describeFailure(new RmError('DEVICE_LOST', 'x', 'y')).cause.startsWith('The GPU device was lost'),
    true,
  );
});

test('failures that are none of ours', () => {
  assert.is(describeFailure(new TypeError('x is not a function')).code, 'UNEXPECTED');
  assert.is(describeFailure('text').message, 'text');
  assert.is(describeFailure(new RangeError('Array buffer allocation failed')).code, 'OUT_OF_MEMORY');
});

test('a wrong command line is exit code 2, help is 0', () => {
  const { terminal, stdout, stderr } = recordingTerminal();
  const wrong = new CommanderError(1, 'commander.unknownOption', "error: unknown option '--x'");
  assert.is(reportFailure(wrong, terminal, true), 2);
  assert.is(JSON.parse(stdout()).error.code, 'USAGE');
  assert.is(JSON.parse(stdout()).error.message, "unknown option '--x'");
  assert.is(stderr(), '', 'commander has said it already');
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

test.run();
