import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RmError } from '../../engine/index.js';
import {
  type Document,
  type DocumentOptions,
  type LeftOut,
  readDocuments,
} from '../../model/text/documents.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

async function read(
  name: string,
  content: string | Uint8Array,
  options?: DocumentOptions,
): Promise<Document[]> {
  using folder = temporaryFolder();
  const path = join(folder.path, name);
  writeFileSync(path, content);
  const documents: Document[] = [];
  for await (const { where: _, ...document } of readDocuments(path, options)) documents.push(document);
  return documents;
}

const refuse = (name: string, content: string | Uint8Array, options?: DocumentOptions) =>
  rejectsWith(() => read(name, content, options), 'DATA_INVALID');

const chat = [
  { role: 'user', content: 'a' },
  { role: 'assistant', content: 'b' },
];

test('txt: documents end at empty lines', async () => {
  const text = '\ufeff\n one\ntwo \n\n \t\n\nthree\u2028still three\r\nfour\r\n\r\nfive';
  assert.equal(await read('a.txt', text), [
    { text: ' one\ntwo ' },
    { text: 'three\u2028still three\r\nfour' },
    { text: 'five' },
  ]);
});

test('jsonl: text, messages, ShareGPT, bare strings', async () => {
  const lines = [
    JSON.stringify({ id: 1, text: 'line\u2028separator' }),
    '',
    JSON.stringify({ text: 'not this', messages: chat }),
    JSON.stringify({
      conversations: [
        { from: 'human', value: 'a' },
        { from: 'gpt', value: 'b' },
      ],
    }),
    JSON.stringify({ conversations: [] }),
    JSON.stringify({ text: '' }),
    JSON.stringify('bare'),
  ];
  const expected = [
    { text: 'line\u2028separator' },
    { messages: chat },
    { messages: chat },
    { text: 'bare' },
  ];
  assert.equal(await read('a.jsonl', lines.join('\n')), expected);
  assert.equal(await read('a.JSONL', `${lines.join('\r\n')}\r\n`), expected);
  const other = '{"text": "not this", "body": "this"}';
  assert.equal(await read('a.jsonl', other, { textField: 'body' }), [{ text: 'this' }]);
});

test('jsonl: what is wrong is named with its line', async () => {
  const good = '{"text": "x"}\n';
  assert.match(await refuse('a.jsonl', `${good}\n{"text": \n`), /a\.jsonl:3: not JSON/);
  assert.match(await refuse('a.jsonl', `${good}{"body": "x"}`), /a\.jsonl:2: has no field "messages"/);
  assert.match(await refuse('a.jsonl', good, { textField: 'body' }), /a\.jsonl:1: has no field "body"/);
  assert.match(await refuse('a.jsonl', `${good}7`), /a\.jsonl:2: 7 is not a document/);
  assert.match(await refuse('a.jsonl', `${good}{"text": 7}`), /a\.jsonl:2: "text": is 7/);
  assert.match(
    await refuse('a.jsonl', '{"messages": [{"role": "user"}]}'),
    /a\.jsonl:1: .*no text in "content"/,
  );
  assert.match(await refuse('a.jsonl', '{"messages": ["hi"]}'), /a\.jsonl:1: .*a turn is "hi"/);
  const unknown = '{"conversations": [{"from": "martian", "value": "x"}]}';
  assert.match(await refuse('a.jsonl', unknown), /a\.jsonl:1: .*a turn has the unknown author "martian"/);
  assert.match(
    await refuse('a.jsonl', Buffer.concat([Buffer.from(good), Uint8Array.of(0xff)])),
    /:2: not UTF-8/,
  );
});

test('json: an array, element by element', async () => {
  const list = [
    { text: 'a "quoted" \\ [x], {y}\u2028' },
    { messages: chat, more: [[1, 2], {}] },
    'bare, with comma',
  ];
  const expected = [{ text: list[0]!.valueOf() as never }, { messages: chat }, { text: 'bare, with comma' }];
  (expected[0] as { text: string }).text = 'a "quoted" \\ [x], {y}\u2028';
  for (const indent of [0, 2]) {
    assert.equal(await read('a.json', JSON.stringify(list, null, indent)), expected);
  }
  assert.equal(await read('a.json', `\ufeff ${JSON.stringify(list)} \n`), expected);
  assert.match(await refuse('a.json', '[]'), /holds no document/);
  assert.match(await refuse('a.json', '7'), /a\.json:1: neither a list nor an object/);
  assert.match(await refuse('a.json', '[{"text": "x"}\n,{"text": }]'), /a\.json:2: not JSON/);
  assert.match(await refuse('a.json', '["x",\n]'), /a\.json:2: not JSON: an element is missing/);
  assert.match(await refuse('a.json', '["x",,"y"]'), /an element is missing/);
  assert.match(await refuse('a.json', '["x"'), /truncated/);
  assert.match(await refuse('a.json', '["x"]\n\n"y"'), /a\.json:3: the list is followed by/);
  assert.match(await refuse('a.json', '["x"}]'), /not JSON|truncated/);
  assert.match(await refuse('a.json', '["x", {"id": 1}]'), /a\.json:1: has no field/);
});

test('a row gives its first field that is not empty', async () => {
  const lines = [
    { messages: [], text: 'a' },
    { messages: null, conversations: '[]', text: 'b' },
    { messages: chat, text: 'not this' },
    { text: null },
    { messages: { role: [], content: [] }, text: '' },
  ];
  const left: LeftOut[] = [];
  const options = { onLeftOut: (row: LeftOut) => left.push(row) };
  const documents = await read('a.jsonl', lines.map(line => JSON.stringify(line)).join('\n'), options);
  assert.equal(documents, [{ text: 'a' }, { text: 'b' }, { messages: chat }]);
  assert.equal(
    left.map(({ where, problem }) => [where.split(':')[1], problem]),
    [
      ['4', undefined],
      ['5', undefined],
    ],
  );
});

test('invalid rows are left out where the caller asks for it', async () => {
  const lines = [
    '{"text": "x"}',
    'oops',
    '{"body": 1}',
    '{"messages": [{"role": "user"}]}',
    '{"text": "\\ud800"}',
    '"y"',
  ];
  const left: LeftOut[] = [];
  const options = { skipInvalid: true, onLeftOut: (row: LeftOut) => left.push(row) };
  assert.equal(await read('a.jsonl', lines.join('\n'), options), [{ text: 'x' }, { text: 'y' }]);
  assert.equal(
    left.map(({ where, problem }) => [where.split(':')[1], problem?.code]),
    ['2', '3', '4', '5'].map(line => [line, 'DATA_INVALID']),
  );
  assert.match(await refuse('a.jsonl', 'oops', options), /holds no document; .*a\.jsonl:1: not JSON/);
});

test('turns that cannot be used are refused', async () => {
  const turn = (fields: object) => JSON.stringify({ messages: [{ role: 'user', ...fields }] });
  assert.match(await refuse('a.jsonl', turn({ content: null })), /no text in "content"/);
  assert.match(await refuse('a.jsonl', turn({ content: null, tool_calls: [] })), /no text in "content"/);
  assert.match(await refuse('a.jsonl', turn({ content: 7 })), /no text in "content"/);
  assert.match(await refuse('a.jsonl', turn({ content: [{ type: 'image_url' }] })), /a turn has .*image_url/);
  const beside = (fields: object) => JSON.stringify({ messages: chat, ...fields });
  assert.match(await refuse('a.jsonl', beside({ tools: 'oops' })), /"tools" is "oops"/);
  const system = { messages: [{ role: 'system', content: 'a' }, ...chat], system: 'b' };
  assert.match(await refuse('a.jsonl', JSON.stringify(system)), /"system" differs/);
  assert.match(await refuse('a.jsonl', '{"messages": "hi"}'), /is "hi", no list of turns/);
  assert.match(await refuse('a.jsonl', '{"text": ["a", "b"]}'), /is \["a","b"\], neither a text nor/);
});

test('forms of files that people have', async () => {
  const rows = ['a', 'b'].map(text => ({ text }));
  const lines = rows.map(row => JSON.stringify(row)).join('\n');
  for (const [name, content] of [
    ['windows.jsonl', lines.replaceAll('\n', '\r\n')],
    ['mac.jsonl', lines.replaceAll('\n', '\r')],
    ['mark.jsonl', `\ufeff${lines}`],
    ['mark.json', `\ufeff${lines}`],
    ['lines.json', lines],
    ['pretty.json', rows.map(row => JSON.stringify(row, null, 2)).join('\n')],
    ['nan.jsonl', lines.replaceAll('}', ', "score": NaN}')],
  ] as const) {
    assert.equal(await read(name, content), rows, name);
  }
  assert.equal(await read('one.json', '{"text": "a"}'), [{ text: 'a' }]);
  for (const [name, content, problem, fix] of [
    ['a.jsonl.gz', 'x', /unknown kind/, /gzip -dk a\.jsonl\.gz/],
    ['a.parquet.zst', 'x', /unknown kind/, /zstd -d a\.parquet\.zst/],
    ['inside.jsonl', Uint8Array.of(0x1f, 0x8b, 8), /is compressed/, /Unpack/],
    ['a.csv', 'x', /unknown kind/, /Convert/],
    ['a.md', 'x', /unknown kind/, /Rename a plain text to \.txt/],
    ['utf16.jsonl', Buffer.from('\ufeff"a"', 'utf16le'), /is UTF-16/, /UTF-8/],
    ['page.json', '<!DOCTYPE html><html>', /is a web page/, /Download/],
    ['lfs.parquet', 'version https://git-lfs.github.com/spec/v1', /is a Git LFS pointer/, /git lfs pull/],
    ['rows.json', JSON.stringify({ version: 1, data: rows }), /has no field/, /"data" holds the rows/],
  ] as const) {
    const error = await read(name, content).catch(caught => caught as RmError);
    assert.instance(error, RmError, name);
    assert.is((error as RmError).code, 'DATA_INVALID');
    assert.match((error as RmError).message, problem);
    assert.match((error as RmError).fix, fix);
  }
});

test('elements larger than what is read at a time', async () => {
  const long = 'x\u00e9'.repeat(1_500_000);
  assert.equal(await read('a.json', JSON.stringify([long, 'y'])), [{ text: long }, { text: 'y' }]);
  assert.equal(await read('a.jsonl', `${JSON.stringify(long)}\n"y"`), [{ text: long }, { text: 'y' }]);
});

test('files that are no text files', async () => {
  using folder = temporaryFolder();
  assert.match(await refuse('a.csv', 'x'), /unknown kind/);
  for (const name of ['a.txt', 'a.jsonl', 'a.json', 'a.parquet']) {
    assert.match(await refuse(name, ''), /the file is empty/);
  }
  assert.match(await refuse('a.txt', ' \n\n'), /holds no document/);
  assert.match(await refuse('a.jsonl', '\n'), /holds no document/);
  assert.match(await refuse('a.parquet', 'PAR1 this is not parquet PAR1'), /cannot be read as parquet/);
  assert.match(await refuse('a.parquet', 'x'), /cannot be read as parquet/);
  const collect = async (path: string) => {
    for await (const document of readDocuments(path)) assert.ok(document);
  };
  assert.match(await rejectsWith(() => collect(join(folder.path, 'no.txt')), 'DATA_INVALID'), /no such file/);
  mkdirSync(join(folder.path, 'folder.txt'));
  assert.match(
    await rejectsWith(() => collect(join(folder.path, 'folder.txt')), 'DATA_INVALID'),
    /not a file/,
  );
});

test('timers and signals get their turn while documents are read and computed on', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'many.txt');
  writeFileSync(path, Array.from({ length: 200 }, (_, i) => `Text ${i}.`).join('\n\n'));
  let [turns, documents] = [0, 0];
  const timer = setInterval(() => turns++, 1);
  for await (const _ of readDocuments(path)) {
    documents++;
    for (const end = performance.now() + 5; performance.now() < end; );
  }
  clearInterval(timer);
  assert.is(documents, 200);
  assert.ok(turns >= 10, `${turns} turns in a second of work`);
});

test.run();
