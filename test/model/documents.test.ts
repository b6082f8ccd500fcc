import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Document, type DocumentOptions, readDocuments } from '../../model/text/documents.js';
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
  for await (const document of readDocuments(path, options)) documents.push(document);
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
    { text: 'three\u2028still three\nfour' },
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
  assert.match(await refuse('a.jsonl', `${good}{"text": null}`), /a\.jsonl:2: "text": is null/);
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
  assert.match(await refuse('a.json', '{"text": "x"}'), /a\.json:1: not a JSON array/);
  assert.match(await refuse('a.json', '[{"text": "x"}\n,{"text": }]'), /a\.json:2: not JSON/);
  assert.match(await refuse('a.json', '["x",\n]'), /a\.json:2: not JSON: an element is missing/);
  assert.match(await refuse('a.json', '["x",,"y"]'), /an element is missing/);
  assert.match(await refuse('a.json', '["x"'), /truncated/);
  assert.match(await refuse('a.json', '["x"]\n\n"y"'), /a\.json:3: the array is followed by/);
  assert.match(await refuse('a.json', '["x"}]'), /not JSON|truncated/);
  assert.match(await refuse('a.json', '["x", {"id": 1}]'), /a\.json:1: has no field/);
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

test.run();
