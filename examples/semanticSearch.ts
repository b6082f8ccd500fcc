/**
 * Semantic search: texts as mean hidden states of a language model, centred and of length 1; the nearest to a query by cosine.
 *
 *   node dist/examples/semanticSearch.js [MODEL [QUERY]]      default: the demo model
 */
import { Device, downloadF32, downloadU32, Scope } from 'rm-engine/engine';
import { map, matmul, reduce, rowNorms, topK } from 'rm-engine/kernels';
import { Batch, forward, loadTokenizer, Model } from 'rm-engine/model';
import { shippedPath } from 'rm-engine/replaceme';

const [folder = shippedPath('demo-model'), query = 'Her father laughed.'] = process.argv.slice(2);
const texts = [
  'Her father laughed at his wife.',
  'The carriage came to the door at nine.',
  'Her mother smiled at her husband.',
  'He had five thousand pounds a year.',
  'It rained all the evening.',
];

await using device = await Device.open();
using model = await Model.load(device, folder);
using tokenizer = await loadTokenizer(folder);
using scope = new Scope(device);
const { recorder: rec } = device;
const { hidden, layers } = model.arch;

// One row for each text: the mean over its tokens, halfway up the model.
const all = await tokenizer.encodeBatch([query, ...texts]);
const vectors = scope.tensor([all.length, hidden]);
for (const [row, ids] of all.entries()) {
  using batch = new Batch(device, [ids]);
  using states = forward(model, batch, { to: Math.floor(layers / 2) });
  reduce(rec, 'mean', states, vectors.rows(row, 1).reshape([hidden]), { axis: 'first' });
}

// What all texts have in common says nothing about one of them.
const mean = scope.tensor([hidden]);
const norms = scope.tensor([all.length]);
reduce(rec, 'mean', vectors, mean, { axis: 'first' });
map(rec, 'vectors - mean', { vectors, mean }, vectors);
rowNorms(rec, vectors, norms);
map(rec, 'vectors / norms', { vectors, norms: norms.reshape([all.length, 1]) }, vectors);

const scores = scope.tensor([1, all.length]);
const values = scope.tensor([1, 4]);
const places = scope.tensor([1, 4], 'u32');
matmul(rec, vectors.rows(0, 1), vectors, scores, { transposeB: true });
topK(rec, scores, values, places);
const [cosines, found] = [await downloadF32(values), await downloadU32(places)];
for (const [i, place] of found.entries())
  console.log(
    `${cosines[i]!.toFixed(3).padStart(6)}  ${place === 0 ? `the query: ${query}` : texts[place - 1]}`,
  );
