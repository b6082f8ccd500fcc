import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { localTime } from '../../cli/options/dateOption.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { rmEngine } from './support.js';

// Chat templates that print the date, and one that never ends, through the whole command line: twelve short commands.

const folder = temporaryFolder();
const path = (...parts: string[]) => join(folder.path, ...parts);
const turns = "{% for m in messages %}{{ m.role + ':' + m.content + '<end>' }}{% endfor %}";

test.before(async () => {
  for (const [name, template] of [
    ['dated', `{{ strftime_now('%A, %d %b %Y %H:%M') }}|${turns}`],
    ['two', `{% if messages|length < 2 %}{{ raise_exception('two turns, please') }}{% endif %}${turns}`],
    ['endless', '{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}'],
  ] as const) {
    mkdirSync(path(name));
    await writeTinyModel(path(name));
    writeFileSync(path(name, 'chat_template.jinja'), template);
  }
  const row = (i: number) => ({
    messages: [
      { role: 'user', content: `What is ${i}?` },
      { role: 'assistant', content: `${i} is a number, and ${i + 1} is the next.` },
    ],
  });
  writeFileSync(
    path('chats.jsonl'),
    Array.from({ length: 24 }, (_, i) => `${JSON.stringify(row(i))}\n`).join(''),
  );
});
test.after(() => folder[Symbol.dispose]());

async function run(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await rmEngine(args);
  assert.is(status, 0, stderr);
  return stdout;
}

/** Without the line breaks of the terminal. */
const oneLine = (text: string): string => text.replace(/\s+/g, ' ');

const asBytes = (ids: readonly number[]): string => Buffer.from(ids.filter(id => id < 256)).toString();

test('generate: the date of --date, else the present', async () => {
  const prompt = async (...more: string[]) => {
    const args = ['generate', path('dated'), 'hi', '--chat', '--max-tokens', '1', '--json', ...more];
    return asBytes((JSON.parse(await run(...args)) as { promptIds: number[] }).promptIds);
  };
  assert.is(await prompt('--date', '2031-02-03T04:05'), 'Monday, 03 Feb 2031 04:05|user:hi');
  const before = localTime();
  const shown = /(\d\d) (\w+) (\d{4}) (\d\d:\d\d)\|/.exec(await prompt())!;
  // The minute, the day or the year may have changed meanwhile.
  const times = [before, localTime()].map(text =>
    [text.slice(0, 4), text.slice(8, 10), text.slice(11, 16)].join(),
  );
  assert.ok(times.includes([shown[3], shown[1], shown[4]].join()), `${shown[0]} ${times}`);
  const wrong = await rmEngine(['generate', path('dated'), 'hi', '--chat', '--date', '2031-02-30']);
  assert.is(wrong.status, 2);
  assert.match(wrong.stderr, /a date such as 2024-07-26/);
});

test('eval and prune: a fixed date, which the reports name', async () => {
  const evaluated = async (...more: string[]) =>
    JSON.parse(await run('eval', path('dated'), path('chats.jsonl'), '--json', ...more)) as {
      templateDate: string;
      files: { ppl: number }[];
    };
  const fixed = await evaluated();
  assert.is(fixed.templateDate, '2024-07-26');
  const other = await evaluated('--date', '2031-02-03');
  assert.is(other.templateDate, '2031-02-03');
  assert.not.equal(other.files, fixed.files);
  const prune = [
    'prune',
    path('dated'),
    path('out'),
    '--layers',
    '1',
    '--calib',
    path('chats.jsonl'),
    '--report',
    'none',
  ];
  await run(...prune);
  const { recipe } = JSON.parse(readFileSync(path('out', 'report.json'), 'utf8')) as {
    recipe: { date: string };
  };
  assert.is(recipe.date, '2024-07-26');
});

test('shards of two days say why they differ', async () => {
  const gather = (shard: string, date: string) =>
    run(
      ...['stats', 'gather', path('dated'), path(`${date}.safetensors`), '--shard', shard, '--date', date],
      ...['--calib', path('chats.jsonl'), '--layers', '1', '--method', 'replaceme-ls'],
    );
  await gather('1/2', '2031-02-03');
  await gather('2/2', '2031-02-04');
  const { status, stderr } = await rmEngine([
    ...['stats', 'merge', path('merged.safetensors')],
    ...['2031-02-03', '2031-02-04'].map(date => path(`${date}.safetensors`)),
  ]);
  assert.is(status, 2);
  assert.match(oneLine(stderr), /date of the chat template: "2031-02-04", not "2031-02-03"/);
});

test('a template that refuses the prompts of the report costs no more than these samples', async () => {
  await run(
    ...[
      'prune',
      path('two'),
      path('of-two'),
      '--layers',
      '1',
      '--method',
      'plain',
      '--calib',
      path('chats.jsonl'),
    ],
    ...['--eval-tokens', '256', '--tokens', '512', '--report', 'full'],
  );
  const report = JSON.parse(readFileSync(path('of-two', 'report.json'), 'utf8'));
  assert.equal(report.evaluation.samples ?? [], []);
});

test('Ctrl-C ends a command whose template does not end', async () => {
  const started = performance.now();
  const { status } = await rmEngine(['generate', path('endless'), 'hi', '--chat', '--verbose'], {
    interruptAfterMs: 1500,
  });
  assert.is(status, 130);
  // Of which the command takes some to start, and two at most to end.
  assert.ok(performance.now() - started < 12_000, `${performance.now() - started} ms`);
});

test('a template that does not end is an error', async () => {
  const { status, stderr } = await rmEngine(['eval', path('endless'), path('chats.jsonl')]);
  assert.is(status, 1);
  assert.match(
    oneLine(stderr),
    /the chat template was stopped: it does not end within 5 seconds .*endless.chat_template\.jinja/,
  );
});

test.run();
