import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { modelNames } from '../../cli/chat/command.js';
import { type Answer, Conversation, type ConversationOptions } from '../../cli/chat/conversation.js';
import { TwoColumns } from '../../cli/chat/twoColumns.js';
import { Device } from '../../engine/index.js';
import { generate } from '../../model/generation/generate.js';
import { openTextReader, type TextReader } from '../../model/text/textReader.js';
import { Model } from '../../model/transformer/model.js';
import { rejectsWith } from '../gpu.js';
import { saySkipped, temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { recordingTerminal, rmEngine } from './support.js';

/** A model without a chat template; its tokenizer has 2048 words. */
const demo = fileURLToPath(new URL('../../../assets/demo-model', import.meta.url));
/** A model with a chat template, a byte tokenizer and a context of 128. */
const folder = temporaryFolder();
const tiny = join(folder.path, 'tiny');

const template =
  "{% for m in messages %}{{ m.role + ':' + m.content + '<end>' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";

const ESC = '\u001b';

let device: Device;
let models: Record<'demo' | 'tiny', Model>;
let readers: Record<'demo' | 'tiny', TextReader>;

test.before(async () => {
  mkdirSync(tiny);
  await writeTinyModel(tiny);
  writeFileSync(join(tiny, 'chat_template.jinja'), template);
  device = await Device.open();
  models = { demo: await Model.load(device, demo), tiny: await Model.load(device, tiny) };
  readers = { demo: await openTextReader(demo), tiny: await openTextReader(tiny) };
});

test.after(async () => {
  models.demo.dispose();
  models.tiny.dispose();
  await device.close();
  folder[Symbol.dispose]();
});

const talk = (name: 'demo' | 'tiny', options: Partial<ConversationOptions> = {}) =>
  new Conversation(name, models[name], readers[name], { maxTokens: 8, ...options });

/** Reads the whole answer and checks that its pieces make up its text. */
async function answered(conversation: Conversation, message: string, stop?: AbortSignal): Promise<Answer> {
  let text = '';
  const pieces = conversation.answer(message, stop && { stop });
  for (;;) {
    const { done, value } = await pieces.next();
    if (done) {
      assert.is(value.text, text);
      return value;
    }
    text += value;
  }
}

const eosIds = (name: 'demo' | 'tiny') => readers[name].tokenizer.eosIds;

/** Generates from scratch, without a session or a cache. */
const fresh = (name: 'demo' | 'tiny', ids: readonly number[], maxTokens = 8) =>
  generate(models[name], ids, { maxTokens, eosIds: eosIds(name) });

test('without a template the first answer is what generate makes, token by token', async () => {
  using conversation = talk('demo', { maxTokens: 30 });
  const ids = await readers.demo.tokenizer.encode('It is a truth');
  const answer = await answered(conversation, 'It is a truth');
  assert.equal(answer.ids, await fresh('demo', ids, 30));
  assert.equal([answer.promptTokens, answer.reusedTokens, answer.stopped], [ids.length, 0, 'length']);
});

test('every turn with the KV cache of those before equals the whole conversation from scratch', async () => {
  // Creates the model's rotation table, which stays.
  await fresh('tiny', [1]);
  const before = device.memory.liveBytes;
  {
    using conversation = talk('tiny', { system: 'Be.' });
    let text = 'system:Be.<end>';
    let computed = 0;
    for (const message of ['Hi', 'And?', 'ü ☃']) {
      text += `user:${message}<end>assistant:`;
      const ids = await readers.tiny.tokenizer.encode(text, { addSpecialTokens: false });
      const answer = await answered(conversation, message);
      assert.equal(answer.ids, await fresh('tiny', ids), message);
      assert.is(answer.promptTokens, ids.length);
      // Bytes that are not text come back from the template as other tokens; all before them is reused.
      assert.ok(answer.reusedTokens >= computed, `${answer.reusedTokens} of at least ${computed}`);
      computed = ids.length;
      text += `${answer.text}<end>`;
    }
  }
  assert.is(device.memory.liveBytes, before);
});

test('a seed gives the same conversation again, and each turn draws anew', async () => {
  const texts = async () => {
    using conversation = talk('demo', { temperature: 1, seed: 5, topK: 40 });
    const first = await answered(conversation, 'She');
    return [first.ids, (await answered(conversation, 'She')).ids];
  };
  const [once, again] = [await texts(), await texts()];
  assert.equal(once, again);
  const ids = await readers.demo.tokenizer.encode('She');
  assert.equal(
    once[0],
    await generate(models.demo, ids, {
      maxTokens: 8,
      temperature: 1,
      seed: 5,
      topK: 40,
      eosIds: eosIds('demo'),
    }),
  );
});

test('reset forgets the conversation, but uses what the cache still holds', async () => {
  using conversation = talk('demo');
  const first = await answered(conversation, 'It is a truth');
  await answered(conversation, 'Then she');
  conversation.reset();
  const again = await answered(conversation, 'It is a truth');
  assert.equal(again.ids, first.ids);
  assert.is(again.reusedTokens, first.promptTokens - 1);
});

test('the oldest turns are forgotten where the context is full', async () => {
  using conversation = talk('tiny', { maxTokens: 16 });
  const message = 'x'.repeat(40);
  const forgotten: number[] = [];
  for (let turn = 0; turn < 4; turn++) {
    const answer = await answered(conversation, message);
    assert.ok(answer.promptTokens + 16 <= 128);
    forgotten.push(answer.forgotten);
  }
  assert.is(forgotten[0], 0);
  assert.ok(forgotten.reduce((a, b) => a + b) >= 2, `${forgotten}`);
});

test('a message longer than the context is a typed error, and the conversation goes on', async () => {
  using conversation = talk('tiny');
  const first = await answered(conversation, 'Hi');
  const error = await rejectsWith(() => answered(conversation, 'x'.repeat(200)), 'INVALID_ARGUMENT');
  assert.match(error, /the model's context is 128/);
  const next = await answered(conversation, 'Go on');
  assert.ok(next.promptTokens > first.promptTokens + first.text.length, 'the first turn is still known');
});

test('stopped after three tokens: the answer keeps them', async () => {
  using conversation = talk('demo', { maxTokens: 30 });
  const controller = new AbortController();
  const pieces = conversation.answer('It is a truth', { stop: controller.signal });
  for (let i = 0; i < 3; i++) await pieces.next();
  controller.abort();
  let last = await pieces.next();
  while (!last.done) last = await pieces.next();
  assert.equal([last.value.stopped, last.value.ids.length], ['interrupted', 3]);
});

test('two answers in turns on one device are those of each alone', async () => {
  using left = talk('demo');
  using right = talk('tiny');
  const [a, b] = [left.answer('She said'), right.answer('She said')];
  const done: Answer[] = [];
  while (done.length < 2) {
    for (const [i, pieces] of [a, b].entries()) {
      if (done[i]) continue;
      const step = await pieces.next();
      if (step.done) done[i] = step.value;
    }
    if (done.filter(Boolean).length === 2) break;
  }
  assert.equal(done[0]!.ids, await fresh('demo', await readers.demo.tokenizer.encode('She said')));
  const ids = await readers.tiny.tokenizer.encode('user:She said<end>assistant:', {
    addSpecialTokens: false,
  });
  assert.equal(done[1]!.ids, await fresh('tiny', ids));
});

test('from a pipe: answers on stdout as generate prints them, no prompt, no colour', async () => {
  const args = ['--max-tokens', '12'];
  const single = await rmEngine(['generate', demo, 'It is a truth', ...args]);
  const { status, stdout, stderr } = await rmEngine(['chat', demo, ...args], {
    input: 'It is a truth\n\n/reset\nIt is a truth\n/nonsense\n',
  });
  assert.is(status, 0);
  assert.is(stdout, single.stdout.repeat(2));
  const stop = single.stdout.slice(10, 15);
  const cut = await rmEngine(['generate', demo, 'It is a truth', '--stop', 'never', '--stop', stop]);
  assert.is(cut.stdout, `${single.stdout.slice(0, single.stdout.indexOf(stop))}\n`);
  assert.match(stderr, /demo-model has no chat template: it continues your lines instead/);
  assert.match(stderr, /^12 tokens in .* s, .* tokens\/s, cut at --max-tokens$/m);
  assert.match(stderr, /there is no command \/nonsense/);
  assert.not.ok((stdout + stderr).includes(ESC));
  assert.not.match(stdout + stderr, /> /);
});

test('--json: a turn a line, with the answers of both; --quiet: nothing else', async () => {
  const { status, stdout, stderr } = await rmEngine(
    ['chat', demo, '--against', tiny, '--max-tokens', '5', '--json', '--quiet'],
    { input: 'Hi\nAnd then' },
  );
  assert.is(status, 0);
  assert.is(stderr, '');
  const turns = stdout
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line));
  assert.equal(
    turns.map(({ turn, user }) => [turn, user]),
    [
      [1, 'Hi'],
      [2, 'And then'],
    ],
  );
  for (const { answers } of turns) {
    assert.equal(
      answers.map(({ model }: Answer) => model),
      ['demo-model', 'tiny'],
    );
    assert.equal(Object.keys(answers[0]), [
      ...['model', 'text', 'ids', 'stopped', 'promptTokens', 'reusedTokens', 'seconds', 'forgotten'],
    ]);
  }
  assert.equal(turns[0].answers[0].ids, await fresh('demo', await readers.demo.tokenizer.encode('Hi'), 5));
});

test('two models from a pipe: one after the other, each named', async () => {
  const { stdout } = await rmEngine(['chat', demo, '--against', tiny, '--max-tokens', '3', '--quiet'], {
    input: 'Hi\n',
  });
  assert.match(stdout, /^\[demo-model\]\n[\s\S]*\n\[tiny\]\n[\s\S]*\n$/);
});

test('a message that fails ends a pipe: three lines, exit code 2', async () => {
  const { status, stderr } = await rmEngine(['chat', tiny, '--quiet'], {
    input: `${'x'.repeat(300)}\nnever read\n`,
  });
  assert.is(status, 2);
  assert.match(stderr, /^error: the prompt has \d+ tokens.*\n {2}where: rm-engine chat.*\n {2}fix: .*\n$/);
});

test('names of models: short where that tells them apart', () => {
  assert.equal(modelNames(['a/x', 'b/y/']), ['x', 'y']);
  assert.equal(modelNames(['a/x', 'b/x']), ['a/x', 'b/x']);
});

/** The screen of a terminal after this output; knows only the escapes that TwoColumns writes. */
function screen(written: string, columns: number): string[] {
  const lines: string[] = [''];
  let [row, column] = [0, 0];
  for (const [, up, down, other] of written.replaceAll(ESC, '␛').matchAll(/␛\[(\d+)A|␛\[(J)|([\s\S])/gu)) {
    if (up) row -= Number(up);
    else if (down) lines.splice(row, Number.POSITIVE_INFINITY, lines[row]!.slice(0, column));
    else if (other === '\r') column = 0;
    else if (other === '\n') [row, column] = [row + 1, 0];
    else {
      lines[row] = (lines[row] ?? '').padEnd(column).slice(0, column) + other;
      column++;
    }
    lines[row] ??= '';
    assert.ok(row >= 0 && column <= columns, 'stays on the screen');
  }
  return lines.map(line => line.trimEnd());
}

test('two columns: texts that grow at different speed end side by side, wrapped', () => {
  const { terminal, stdout } = recordingTerminal();
  let highest = 0;
  const columns = new TwoColumns({
    ...{ columns: 44, rows: 6, rule: '|', titles: ['left', 'right'] },
    terminal: {
      data: text => terminal.data(text),
      redraw: (up, text) => {
        terminal.redraw(up, text);
        highest = Math.max(highest, text.split('\n').length);
      },
    },
  });
  const left = 'one two three four five six seven eight nine ten eleven twelve\nthirteen\u001b[2J';
  const right = 'a\n\nb '.repeat(10);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    if (left[i]) columns.add(0, left[i]!);
    if (right[i]) columns.add(1, right[i]!);
    if (i === left.length - 1) columns.end(0);
  }
  columns.end(1);
  const rows = screen(stdout(), 44);
  assert.equal(rows.slice(0, 6), [
    'left                 | right',
    'one two three four   | a',
    'five six seven eight |',
    'nine ten eleven      | b a',
    'twelve               |',
    'thirteen\\u001b[2J    | b a',
  ]);
  assert.is(rows.length, 1 + 21 + 1, 'every row once, and an empty line');
  assert.is(rows.at(-2), '                     | b');
  assert.is(rows.at(-1), '');
});

test('at a terminal: prompt, colour, Ctrl-C stops an answer, twice ends', async () => {
  if (spawnSync('script', ['--version']).stdout?.includes('util-linux') !== true) {
    saySkipped('chat at a terminal: script of util-linux is not installed');
    return;
  }
  const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
  const command = `'${process.execPath}' '${main}' chat '${demo}' --max-tokens 400`;
  const log = join(folder.path, 'log');
  const { CI: _, NO_COLOR: __, FORCE_COLOR: ___, ...env } = process.env;
  const child = spawn('script', ['-qefc', command, log], { env: { ...env, TERM: 'xterm' } });
  let output = '';
  const until = (pattern: RegExp) =>
    new Promise<void>((resolve, reject) => {
      const look = () => pattern.test(output) && resolve();
      child.stdout.on('data', look);
      child.on('close', () => reject(new Error(`ended without ${pattern}: ${output}`)));
      look();
    });
  child.stdout.setEncoding('utf8').on('data', text => {
    output += text;
  });
  const ended = new Promise<number | null>(resolve => child.on('close', resolve));
  await until(/\/help lists commands/);
  child.stdin.write('It is a truth\r');
  await until(/not be so happy/);
  child.stdin.write('\u0003');
  await until(/\[2m\d+ tokens in .*, stopped.\[22m/);
  child.stdin.write('\u0003');
  assert.is(await ended, 130);
  assert.ok(readFileSync(log, 'utf8').includes(`${ESC}[1m> ${ESC}[22m`));
});

test.run();
