/** A tokenizer.json for each part and option of the format, against transformers (make_tokenizers.py). About 10 seconds. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadTokenizer, type Tokenizer } from '../../model/index.js';
import { dataPath, temporaryFolder } from '../support.js';

interface Case {
  readonly name: string;
  readonly model: string;
  readonly model_options: Record<string, unknown>;
  readonly parts: Record<string, unknown>;
  readonly files: Record<string, unknown>;
  readonly expected: {
    readonly ids: number[][];
    readonly special?: number[][];
    readonly decoded: string[];
    readonly skipped?: string[];
  };
}

const { texts, models, cases } = JSON.parse(readFileSync(dataPath('tokenizers.json'), 'utf8')) as {
  texts: string[];
  models: Record<string, Record<string, unknown>>;
  cases: Case[];
};

async function opened({ model, model_options, parts, files }: Case, folder: string): Promise<Tokenizer> {
  const definition = { ...parts, model: { ...models[model], ...model_options } };
  for (const [name, value] of Object.entries({ 'tokenizer.json': definition, ...files })) {
    writeFileSync(join(folder, name), JSON.stringify(value));
  }
  return await loadTokenizer(folder);
}

for (const each of cases) {
  test(each.name, async () => {
    using folder = temporaryFolder();
    using tokenizer = await opened(each, folder.path);
    const { ids, special = ids, decoded, skipped = decoded } = each.expected;
    assert.equal(await tokenizer.encodeBatch(texts, { addSpecialTokens: false }), ids);
    assert.equal(await tokenizer.encodeBatch(texts), special);
    for (const [i, list] of special.entries()) {
      for (const [skipSpecialTokens, expected] of [
        [false, decoded[i]],
        [true, skipped[i]],
      ] as const) {
        assert.is(await tokenizer.decode(list, { skipSpecialTokens }), expected);
        const stream = tokenizer.createTextStream({ skipSpecialTokens });
        let streamed = '';
        for (const id of list) streamed += await stream.push(id);
        assert.is(streamed + (await stream.end()), expected, 'streamed');
      }
    }
  });
}

test.run();
