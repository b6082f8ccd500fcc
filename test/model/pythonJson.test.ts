import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { exactJsonText, parseExactJson, plainNumbers } from '../../model/files/exactJson.js';
import { isRecord, parseJson } from '../../model/files/jsonFile.js';
import { readDocuments } from '../../model/text/documents.js';
import { rejectsWith } from '../gpu.js';
import { dataPath, temporaryFolder } from '../support.js';

// What Python's json module reads and writes, recorded by test/python/python_json.py. Takes no time.

interface Entry {
  readonly text: string;
  readonly refused?: true;
  readonly leaves?: [path: string, kind: string, value: unknown][];
  readonly dumped?: string;
}

const entries = JSON.parse(readFileSync(dataPath('pythonJson.json'), 'utf8')) as Entry[];

/** The value of Python's float.hex(). */
function fromHex(text: string): number {
  const words: Record<string, number> = { nan: Number.NaN, inf: Infinity, '-inf': -Infinity };
  if (text in words) return words[text]!;
  const [, sign, whole, digits = '', exponent] = /^(-?)0x(\d)(?:\.([\da-f]+))?p([+-]\d+)$/.exec(text)!;
  const mantissa = Number.parseInt(whole! + digits, 16) * 2 ** (-4 * digits.length);
  return (sign === '-' ? -1 : 1) * mantissa * 2 ** Number(exponent);
}

function leavesOf(value: unknown, path = ''): [string, unknown][] {
  if (Array.isArray(value) || isRecord(value)) {
    return Object.entries(value).flatMap(([key, inner]) => leavesOf(inner, `${path}/${key}`));
  }
  return [[path, value]];
}

for (const { text, refused, leaves, dumped } of entries) {
  test(`as Python reads it: ${text}`, async () => {
    if (refused) {
      await rejectsWith(() => parseJson(text, 'config.json'), 'CONFIG_INVALID');
      await rejectsWith(() => parseExactJson(text, 'config.json'), 'CONFIG_INVALID');
      return;
    }
    const expected = leaves!.map(([path, kind, value]) => [
      path,
      kind === 'number' ? fromHex(value as string) : String.fromCharCode(...(value as number[])),
    ]);
    assert.equal(leavesOf(parseJson(text, 'config.json')), expected);
    const exact = parseExactJson(text, 'config.json');
    assert.equal(leavesOf(plainNumbers(exact)), expected);
    // Python's own text stays as it is; others keep their values.
    assert.equal(leavesOf(parseJson(exactJsonText(exact), 'config.json')), expected);
    if (dumped !== undefined) assert.is(exactJsonText(parseExactJson(dumped, 'config.json')), dumped);
  });
}

test('what is wrong beside NaN is named by its own place', async () => {
  const message = await rejectsWith(
    () => parseJson('{"a": NaN, "b": oops}', 'config.json'),
    'CONFIG_INVALID',
  );
  assert.not.match(message, /NaN/);
  assert.match(message, /oops|'o'/);
});

test('what stands in the place of a JSON file is named', async () => {
  const about = (text: string) => rejectsWith(() => parseJson(text, 'x/tokenizer.json'), 'CONFIG_INVALID');
  assert.match(
    await about('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'),
    /Git LFS pointer/,
  );
  assert.match(await about('<!DOCTYPE html><html><body>Log in</body></html>'), /is a web page/);
});

test('rows of data sets may hold NaN', async () => {
  using folder = temporaryFolder();
  const rows = ['{"text": "one", "score": NaN}', '{"text": "NaN", "score": -Infinity}'];
  const files: [string, string][] = [
    ['a.jsonl', `${rows.join('\n')}\n`],
    ['b.json', `[${rows.join(', ')}]`],
  ];
  mkdirSync(join(folder.path, 'rows'));
  for (const [name, content] of files) {
    const path = join(folder.path, 'rows', name);
    writeFileSync(path, content);
    const texts: unknown[] = [];
    for await (const document of readDocuments(path)) texts.push((document as { text?: string }).text);
    assert.equal(texts, ['one', 'NaN'], name);
  }
});

test.run();
