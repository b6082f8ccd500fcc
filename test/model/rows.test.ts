import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readParquetRows } from '../../model/files/parquetRows.js';
import { loadChatTemplate, renderConversation } from '../../model/text/chat.js';
import { readDocuments } from '../../model/text/documents.js';
import { dataPath, temporaryFolder } from '../support.js';

// Rows of data sets beside what transformers renders and pyarrow reads of them (test/python/make_rows.py). Five processes.

interface Expected {
  readonly template: string;
  readonly rows: readonly { readonly name: string; readonly row: string; readonly rendered: string }[];
}

const read = (name: string) => readFileSync(dataPath('rows', name), 'utf8');
const { template, rows } = JSON.parse(read('rendered.json')) as Expected;

/** The documents of a file as the template writes them. */
async function rendered(path: string): Promise<string[]> {
  using folder = temporaryFolder();
  writeFileSync(join(folder.path, 'chat_template.jinja'), template);
  const chat = await loadChatTemplate(folder.path, { specialTokens: {} });
  const texts: string[] = [];
  for await (const document of readDocuments(path)) {
    texts.push('text' in document ? document.text : await renderConversation(document, chat));
  }
  return texts;
}

for (const { name, row, rendered: expected } of rows) {
  test(`the template gets the row whole: ${name}`, async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, 'row.jsonl');
    writeFileSync(path, `${row}\n`);
    assert.equal(await rendered(path), [expected]);
  });
}

test('turns in columns of parquet', async () => {
  assert.equal(await rendered(dataPath('rows', 'turns.parquet')), JSON.parse(read('turns.json')));
});

for (const name of ['plain', 'pages', 'groups']) {
  test(`${name}.parquet: every type as pyarrow reads it, in several ranges, groups and pages`, async () => {
    const all: string[] = [];
    for await (const { bytes, index } of readParquetRows(dataPath('rows', `${name}.parquet`))) {
      assert.is(index, all.length);
      all.push(Buffer.from(bytes).toString());
    }
    assert.is(all.length, 700);
    const chosen = all.filter((_, i) => i < 70 || i % 50 === 0);
    const lines = read('types.jsonl').trimEnd().split('\n');
    for (const [i, line] of lines.entries()) {
      assert.equal(JSON.parse(chosen[i]!), JSON.parse(line), `row ${i}`);
      // JSON.parse does not tell 1.0 from 1.
      const floats = (text: string) => /"floats": ?(\[[^\]]*\])/.exec(text)![1]!.replaceAll(' ', '');
      assert.is(floats(chosen[i]!), floats(line));
    }
  });
}

test.run();
