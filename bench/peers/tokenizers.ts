/**
 * Hugging Face's tokenizers beside each other: the Rust library that rm-engine uses, in its own process, and the one in
 * JavaScript. Both encode the same texts, in turns, and the ids are compared.
 *
 *     npm run bench -- tokenizers [MODEL] [TEXT...]
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import { loadTokenizer } from '../../model/index.js';
import { shippedPath } from '../../replaceme/index.js';

/** The part of @huggingface/tokenizers that is measured. */
interface JavaScriptTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
}

const ROUNDS = 3;

const [model = shippedPath('demo-model'), ...given] = process.argv.slice(2);
const files = given.length > 0 ? given : [shippedPath('demo-heldout.txt')];

const require = createRequire(join(process.cwd(), 'bench/peers/package.json'));
const peer = require('@huggingface/tokenizers') as {
  Tokenizer: new (definition: object, settings: object) => JavaScriptTokenizer;
};

/** A file's lines as the documents of a batch, and a text without a space. */
const batches: [name: string, texts: string[]][] = [];
for (const file of files) {
  const lines = (await readFile(file, 'utf8')).split('\n').filter(line => line.trim() !== '');
  batches.push([`${lines.length} lines of ${basename(file)}`, lines]);
}
batches.push(['320,000 characters without a space', ['abcdefgh'.repeat(40_000)]]);

const seconds = async (work: () => unknown): Promise<number> => {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
};

let tokenizer!: Awaited<ReturnType<typeof loadTokenizer>>;
let other!: JavaScriptTokenizer;
const rows: Record<string, string | number>[] = [];
const row = (work: string, ours: number, theirs: number | string, ids = '') =>
  rows.push({
    ...{ work, 'Rust, s': ours.toFixed(3) },
    'JavaScript, s': typeof theirs === 'number' ? theirs.toFixed(3) : theirs,
    ratio: typeof theirs === 'number' ? (theirs / ours).toFixed(1) : '',
    ids,
  });

const load = await seconds(async () => {
  tokenizer = await loadTokenizer(model);
});
const json = async (name: string) => JSON.parse(await readFile(join(model, name), 'utf8')) as object;
const loadOther = await seconds(async () => {
  other = new peer.Tokenizer(await json('tokenizer.json'), await json('tokenizer_config.json'));
});
row('load', load, loadOther);

for (const [name, texts] of batches) {
  let [ours, theirs]: [number, number | string] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  let [found, expected]: number[][][] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    const took = await seconds(async () => {
      found = await tokenizer.encodeBatch(texts, { addSpecialTokens: false });
    });
    ours = Math.min(ours, took);
    if (typeof theirs === 'string') continue;
    try {
      const tookOther = await seconds(() => {
        expected = texts.map(text => other.encode(text, { add_special_tokens: false }).ids);
      });
      theirs = Math.min(theirs, tookOther);
    } catch (error) {
      theirs = (error as Error).message;
    }
  }
  const differ = texts.filter((_, i) => found![i]!.join() !== expected![i]?.join()).length;
  row(name, ours, theirs, differ === 0 ? 'equal' : `${differ} texts differ`);
}
tokenizer[Symbol.dispose]();
console.table(rows);
