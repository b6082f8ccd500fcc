import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RmError } from '../../engine/index.js';
import { parseMarkedJson } from '../../model/files/pythonJson.js';
import { loadChatTemplate, type RenderOptions } from '../../model/text/chat.js';
import type { ChatMessage } from '../../model/text/conversation.js';
import { rejectsWith } from '../gpu.js';
import { dataPath, temporaryFolder, writeFiles } from '../support.js';

// Chat templates beside what transformers renders of them (test/python/make_chat_templates.py), and hostile ones. Starts
// Python in a thread and waits for templates that do not end: 25 s.

interface Given {
  readonly messages: readonly ChatMessage[];
  readonly tools?: readonly unknown[];
  readonly documents?: readonly unknown[];
  readonly add_generation_prompt?: boolean;
}

interface Expected {
  readonly now: string;
  readonly conversations: Readonly<Record<string, Given>>;
  /** `text` is null where transformers refuses. */
  readonly cases: readonly { name: string; conversation: string; template: string; text: string | null }[];
}

const fixture = readFileSync(dataPath('chatTemplates.json'), 'utf8');
const { now, cases } = JSON.parse(fixture) as Expected;
// With the spelling of numbers, as documents have them.
const { conversations } = parseMarkedJson(fixture) as Expected;

const folder = temporaryFolder();
test.after(() => folder[Symbol.dispose]());
const tokenizer = { specialTokens: { bos_token: '<s>', eos_token: '</s>' } };

/** The chat template of a folder with these files. */
function load(files: Readonly<Record<string, string | object>>, name: string, date?: string) {
  const path = join(folder.path, name);
  writeFiles(path, files);
  return loadChatTemplate(path, tokenizer, { date });
}

/** Renders a template alone. */
async function render(
  template: string,
  { messages, add_generation_prompt, ...beside }: Given,
  date?: string,
) {
  const path = join(folder.path, 'one');
  writeFiles(path, { 'chat_template.jinja': template });
  const chat = await loadChatTemplate(path, tokenizer, { date });
  const options: RenderOptions = { ...beside, addGenerationPrompt: add_generation_prompt ?? false };
  return await chat.renderChat(messages, options);
}

const hi: Given = { messages: [{ role: 'user', content: 'hi' }] };

for (const name of new Set(cases.map(({ name }) => name))) {
  test(`as transformers: ${name}`, async () => {
    for (const { template, conversation, text } of cases.filter(one => one.name === name)) {
      const ours = await render(template, conversations[conversation]!, now).catch(error => {
        assert.ok(error instanceof RmError, `${template}: ${error}`);
        assert.ok(['DATA_INVALID', 'CONFIG_INVALID'].includes(error.code), error.message);
        return null;
      });
      assert.is(ours, text, `${template}, ${conversation}`);
    }
  });
}

test('a template that takes too much is stopped, and the next one is rendered', async () => {
  const nested = '{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}';
  const doubling =
    "{% set ns = namespace(a='a') %}{% for i in range(99) %}{% set ns.a = ns.a + ns.a %}{% endfor %}";
  for (const [template, reason] of [
    [nested, /chat_template\.jinja: the chat template was stopped: it does not end within 5 seconds/],
    ["\n{{ 'a' * 1000000000 }}", /more than 256 MB of memory.*\(line 2 of the template\)/],
    [doubling, /more than 256 MB of memory/],
    ["{% for i in range(20) %}{{ 'a' * 1000000 }}{% endfor %}", /more than 16 million characters/],
    ['{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}', /calls itself, or is nested, too often/],
    [`{{ ${'('.repeat(3000)}1${')'.repeat(3000)} }}`, /nested, too often/],
    [`{{ ${'1+'.repeat(20000)}1 }}`, /nested, too often/],
  ] as const) {
    assert.match(await rejectsWith(() => render(template, hi), 'CONFIG_INVALID'), reason);
    assert.is(await render('{{ messages[0].content }}', hi), 'hi');
  }
  assert.match(
    await rejectsWith(() => render('{{ range(1000000000) }}', hi), 'DATA_INVALID'),
    /Range too big/,
  );
});

test('the main thread stays free while a template is rendered', async () => {
  let ticks = 0;
  const timer = setInterval(() => ticks++, 50);
  await rejectsWith(() => render('{{ 10 ** 100000000 }}', hi), 'CONFIG_INVALID');
  clearInterval(timer);
  assert.ok(ticks > 20, `${ticks} ticks`);
});

test("Jinja's sandbox holds", async () => {
  const template = "{{ cycler.__init__.__globals__.os.popen('id').read() }}";
  assert.match(await rejectsWith(() => render(template, hi), 'DATA_INVALID'), /unsafe/);
});

test('errors name file, line and what is wrong', async () => {
  assert.match(
    await rejectsWith(() => render("\n\n{{ raise_exception('roles must alternate') }}", hi), 'DATA_INVALID'),
    /one.chat_template\.jinja: the chat template rejects these messages: roles must alternate \(line 3 of the template\)/,
  );
  assert.match(
    await rejectsWith(() => render('\n{% if %}', hi), 'CONFIG_INVALID'),
    /cannot be parsed: Expected an expression, .* \(line 2 of the template\)/,
  );
  assert.match(await rejectsWith(() => render("{{ 'a' | b }}", hi), 'CONFIG_INVALID'), /No filter named 'b'/);
});

test('a template is chosen as transformers does', async () => {
  const tools = [{ type: 'function' }];
  const both = [
    { name: 'default', template: 'D' },
    { name: 'tool_use', template: 'T' },
    { name: 'rag', template: 'R' },
  ];
  const list = await load({ 'tokenizer_config.json': { chat_template: both } }, 'list');
  assert.is(await list.renderChat(hi.messages), 'D');
  assert.is(await list.renderChat(hi.messages, { tools }), 'T');
  const files = await load(
    {
      'tokenizer_config.json': { chat_template: 'not this' },
      'chat_template.jinja': 'D',
      'additional_chat_templates/tool_use.jinja': 'T',
    },
    'files',
  );
  assert.is(await files.renderChat(hi.messages), 'D');
  assert.is(await files.renderChat(hi.messages, { tools }), 'T');
  const only = await load({ 'additional_chat_templates/tool_use.jinja': 'T' }, 'only');
  assert.is(await only.renderChat(hi.messages, { tools }), 'T');
  assert.match(await rejectsWith(() => only.renderChat(hi.messages), 'CONFIG_INVALID'), /only tool_use/);
  const wrong = () => load({ 'tokenizer_config.json': { chat_template: [{ name: 'a' }] } }, 'wrong');
  assert.match(await rejectsWith(wrong, 'CONFIG_INVALID'), /neither a text nor a list/);
});

test('dates are those given, and fixed by default', async () => {
  const template = "{{ strftime_now('%d %b %Y, %H:%M') }}";
  assert.is(await render(template, hi), '26 Jul 2024, 00:00');
  assert.is(await render(template, hi, '2031-02-03T04:05'), '03 Feb 2031, 04:05');
  assert.is((await load({ 'chat_template.jinja': template }, 'dated', '2031-02-03')).date, '2031-02-03');
  assert.is((await load({ 'chat_template.jinja': 'x' }, 'undated', '2031-02-03')).date, null);
});

test.run();
