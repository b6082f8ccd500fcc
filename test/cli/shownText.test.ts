/** What data may not do to a terminal. A few seconds. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FailedWork, reportFailure } from '../../cli/terminal/failure.js';
import { colouredText, styled } from '../../cli/terminal/text.js';
import { RmError } from '../../engine/errors.js';
import { shownName, shownText } from '../../replaceme/report/text/shownText.js';
import { formatFields, formatTable } from '../../replaceme/report/text/textTable.js';
import { textWidth } from '../../replaceme/report/text/textWidth.js';
import { hostileNames } from '../hostileNames.js';
import { saySkipped, temporaryFolder } from '../support.js';
import { recordingTerminal, rmEngine } from './support.js';

/** By code point, from the standards: ECMA-48's controls, UAX #9's formatting characters, line ends, what takes no room. */
const dangerous = [
  ...Array.from({ length: 32 }, (_, i) => i).filter(code => code !== 9 && code !== 10),
  ...Array.from({ length: 33 }, (_, i) => 0x7f + i),
  ...[0x61c, 0x200e, 0x200f, 0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2066, 0x2067, 0x2068, 0x2069],
  ...[0xad, 0x200b, 0x2028, 0x2029, 0x2060, 0x2064, 0xfeff, 0x3164, 0xfff9, 0xd800, 0xdfff],
];

test('each dangerous character becomes \\uXXXX; newline, tab and visible text stay', () => {
  for (const code of dangerous) {
    const shown = `a\\u${code.toString(16).padStart(4, '0')}b`;
    assert.is(shownText(`a${String.fromCharCode(code)}b`), shown);
    assert.is(shownText(shown), shown, 'once shown it stays');
  }
  assert.is(shownText('a\u{e0041}b'), 'a\\udb40\\udc41b', 'a tag, in the way of JSON');
  const visible = 'a\n\tb ünï 模型 🦙 e\u0301 שלום مرحبا 𝔘 ¡';
  assert.is(shownText(visible), visible);
  assert.is(shownName('a\n\tb'), 'a\\u000a\\u0009b');
});

test('joiners and variation selectors stay where writing needs them, and are shown where they only hide', () => {
  for (const text of ['👩‍👩‍👧', '👨🏽‍🚀', '❤️', '#️⃣', '1️⃣', 'می‌خواهم', 'क्‍ष', '葛󠄀'])
    assert.is(shownText(text), text, text);
  assert.is(shownText('mo\u200ddel'), 'mo\\u200ddel');
  assert.is(shownText('mo\u200cdel'), 'mo\\u200cdel');
  assert.is(shownText('model\ufe0f'), 'model\\ufe0f');
  assert.is(shownText('мод\u200cель'), 'мод\\u200cель');
});

/** No control character is left but newlines, those of our own colours and of rewritten lines. */
function assertHarmless(output: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: intended.
  const own = output.replace(/\u001b\[(\d+m|K|J|\d+A)|\r(?=\u001b)/g, '');
  assert.is(shownText(own), own, JSON.stringify(output));
}

/** All that a terminal prints when it is given a name in every way. */
function printed(name: string, isTTY: boolean): string {
  const { terminal, stdout, stderr } = recordingTerminal({ isTTY, verbose: true });
  terminal.data(`${name}\n`);
  terminal.data([styled('bold', name), name]);
  terminal.note(name);
  terminal.note([styled('dim', name), name]);
  terminal.warn(name);
  terminal.detail(name);
  terminal.report(name);
  terminal.error(name);
  terminal.live([name, styled('red', name)]);
  terminal.clearLive();
  terminal.redraw(1, name);
  const failure = new RmError('DATA_INVALID', `${name}: is bad`, `Mend ${name}.`);
  reportFailure(new FailedWork(`rm-engine eval ${name}`, failure), terminal, false);
  return [stdout(), stderr()].join('').replace(/\n +at .*/g, '');
}

test('every way to the terminal: a name prints what its shown form prints', () => {
  for (const name of hostileNames) {
    for (const isTTY of [true, false]) {
      const output = printed(name, isTTY);
      assertHarmless(output);
      assert.is(output, printed(shownText(name), isTTY), JSON.stringify(name));
    }
    assert.is(colouredText([styled('bold', name), name]).split('\u001b').length - 1, 2);
  }
});

test('a name with a line end adds no line to a note or a warning; text of several lines keeps them', () => {
  const { terminal, stderr } = recordingTerminal();
  terminal.note('model\nerror: all is lost: downloaded');
  terminal.warn('a\nwarning: b');
  terminal.note(['one\ntwo']);
  assert.is(stderr(), 'model\\u000aerror: all is lost: downloaded\nwarning: a\\u000awarning: b\none\ntwo\n');
});

test('generated text: shown on a terminal, every byte of it in a pipe', () => {
  for (const isTTY of [true, false]) {
    const { terminal, stdout } = recordingTerminal({ isTTY });
    for (const piece of ['red: ', '\u001b[31m', ' \u202e\n']) terminal.verbatim(piece);
    assert.is(stdout(), isTTY ? 'red: \\u001b[31m \\u202e\n' : 'red: \u001b[31m \u202e\n');
  }
});

test('JSON means the same and holds no control character', () => {
  const value = { names: hostileNames, [hostileNames[0]!]: '\u{e0041}\u2028\ud800' };
  const { terminal, stdout } = recordingTerminal({ isTTY: true });
  terminal.jsonLine(value);
  assertHarmless(stdout());
  assert.equal(JSON.parse(stdout()), value);
});

test('tables: a name stays in its cell', () => {
  for (const name of hostileNames) {
    const table = formatTable([{ title: name }, { title: 'n', align: 'right' }], [[name, '1']]);
    assert.is(table.split('\n').length, 3, JSON.stringify(name));
    const [head, row] = table.split('\n');
    assert.is(textWidth(head!), textWidth(row!));
    assertHarmless(table);
  }
  assertHarmless(formatFields([['model', 'a\u001b[2J']]));
});

/** A model folder whose files say what they like. */
function hostileModel(folder: string, name: string): string {
  const model = join(folder, name);
  mkdirSync(model);
  const bad = '\u001b]0;owned\u0007\u009b31m\u202e';
  writeFileSync(
    join(model, 'config.json'),
    JSON.stringify({ model_type: `llama${bad}`, architectures: [bad] }),
  );
  writeFileSync(join(model, 'tokenizer.json'), JSON.stringify({ model: { type: bad } }));
  return model;
}

test('the command line: names of models, files, options and methods, and what is in files', async () => {
  using folder = temporaryFolder();
  const model = hostileModel(folder.path, 'model\u001b[31m\u202e\u009b');
  const missing = join(folder.path, 'none\u001b[2J\u0007.txt');
  const recipe = join(folder.path, 'recipe\u001b[2J.yaml');
  writeFileSync(recipe, '"\\e[31mfield\\u202e": 1\n');
  const rows = join(folder.path, 'rows\u009b.jsonl');
  writeFileSync(rows, '{"text": "\u001b[31m\n');
  for (const words of [
    ['inspect', model],
    ['inspect', model, '--json'],
    ['inspect', missing, '--verbose'],
    ['chat', `${missing}/a`, '--json'],
    ['prune', model, 'out', '--layers', '1\u001b[31m'],
    ['prune', model, 'out', '--layers', '1', '--method', 're\u001b[31m'],
    ['prune', model, 'out', '--config', recipe],
    ['eval', model, rows],
    ['eval', model, '--tasks', 'x\u001b[31m'],
    ['no\u001b[31m', '--x\u202e'],
    ['slurm', 'status', model],
    ['inspect', `org/na\u001b[31mme`, '--download'],
  ]) {
    const { stdout, stderr, status } = await rmEngine(words, { cwd: folder.path });
    assert.ok(status !== 0, words.join(' '));
    assertHarmless(stdout);
    assertHarmless(stderr);
    assert.not.ok(`${stdout}${stderr}`.includes('\u001b'), 'no colours here at all');
    assert.match(stderr, /error: /);
  }
});

const script = spawnSync('script', ['--version']).stdout?.includes('util-linux');
test('at a real terminal too', async () => {
  if (!script) {
    saySkipped('names at a terminal: script of util-linux is not installed');
    return;
  }
  using folder = temporaryFolder();
  const model = hostileModel(folder.path, 'model');
  const log = join(folder.path, 'log');
  const main = new URL('../../cli/main.js', import.meta.url).pathname;
  spawnSync('script', ['-qfc', `'${process.execPath}' '${main}' inspect '${model}'`, log], {
    env: process.env,
  });
  const shown = readFileSync(log, 'utf8').replaceAll('\r\n', '\n');
  assert.match(shown, /\\u001b\]0;owned\\u0007\\u009b31m\\u202e/);
  assertHarmless(shown);
});

test.run();
