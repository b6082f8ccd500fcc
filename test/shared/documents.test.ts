import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Document, type DocumentOptions, readDocuments } from '../../model/text/documents.js';
import { saySkipped, sharedPath } from '../support.js';

const texts = sharedPath('golden', 'texts');

async function read(name: string, options?: DocumentOptions): Promise<Document[]> {
  const documents: Document[] = [];
  for await (const { where: _, ...document } of readDocuments(join(texts!, name), options)) {
    documents.push(document);
  }
  return documents;
}

if (!texts) {
  saySkipped('document formats against shared/golden: no shared folder');
} else {
  const expected = JSON.parse(readFileSync(join(texts, 'formats', 'expected.json'), 'utf8')) as {
    texts: string[];
    messages: { role: string; content: string }[][];
    plain: string[];
  };
  const asTexts = (list: string[]) => list.map(text => ({ text }));
  const asMessages = expected.messages.map(messages => ({ messages }));

  for (const name of ['text.jsonl', 'text.parquet', 'text-zstd.parquet']) {
    test(name, async () => assert.equal(await read(`formats/${name}`), asTexts(expected.texts)));
  }
  for (const name of ['messages.jsonl', 'messages.parquet', 'sharegpt.json']) {
    test(name, async () => assert.equal(await read(`formats/${name}`), asMessages));
  }
  test('plain.txt', async () => assert.equal(await read('formats/plain.txt'), asTexts(expected.plain)));

  test('chat.jsonl has 384 conversations that start with the user', async () => {
    const documents = await read('chat.jsonl');
    assert.is(documents.length, 384);
    assert.ok(documents.every(doc => 'messages' in doc && doc.messages[0]!.role === 'user'));
  });

  test('an unknown column is answered with the ones there are', async () => {
    try {
      await read('formats/text.parquet', { textField: 'body' });
      assert.unreachable();
    } catch (error) {
      assert.match(String(error), '"body"');
      assert.match((error as { fix: string }).fix, 'id, text');
    }
  });
}

test.run();
