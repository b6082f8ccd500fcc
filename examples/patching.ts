/**
 * Activation patching: two prompts that differ in one word. The second is run once for each layer and token, with that one
 * state of the residual stream taken from the first: the states that carry the difference bring the first answer back.
 *
 *   node dist/examples/patching.js [MODEL [CLEAN CORRUPTED]]      default: the demo model
 */
import { Device, downloadF32, Scope } from 'rm-engine/engine';
import { Batch, finalNorm, forward, loadTokenizer, Model, tokenLogits } from 'rm-engine/model';
import { shippedPath } from 'rm-engine/replaceme';

const [
  folder = shippedPath('demo-model'),
  clean = 'Mr. Collins was not so',
  corrupted = 'Mrs. Collins was not so',
] = process.argv.slice(2);

await using device = await Device.open();
using model = await Model.load(device, folder);
using tokenizer = await loadTokenizer(folder);
using scope = new Scope(device);
const { layers, hidden } = model.arch;
const { recorder } = device;
const ids = await tokenizer.encodeBatch([clean, corrupted]);
const tokens = ids[0]!.length;
if (ids[1]!.length !== tokens) throw new Error('the prompts must have equally many tokens');

/** Logits of the token after a prompt; `edit` sees the stream before each layer and after the last. */
async function answer(
  prompt: readonly number[],
  edit: (layer: number, stream: ReturnType<Scope['tensor']>) => void,
) {
  using batch = new Batch(device, [prompt]);
  using states = forward(model, batch, { edit: { residual: edit } });
  using normed = finalNorm(model, states.rows(tokens - 1, 1).reshape([1, hidden]));
  using logits = tokenLogits(model, normed);
  return await downloadF32(logits);
}

const streams = scope.tensor([layers + 1, tokens, hidden], 'f32', 'clean streams');
const rowOf = (layer: number, token: number) =>
  streams.reshape([streams.rowCount, hidden]).rows(layer * tokens + token, 1);
const wanted = await answer(ids[0]!, (layer, stream) =>
  recorder.copy(stream, streams.rows(layer, 1).reshape([tokens, hidden])),
);
const other = await answer(ids[1]!, () => {});

// The two tokens between which the prompts disagree most.
const difference = wanted.map((value, i) => value - other[i]!);
const [up, down] = [difference.indexOf(Math.max(...difference)), difference.indexOf(Math.min(...difference))];
const leaning = (logits: Float32Array) => logits[up]! - logits[down]!;
const words = await Promise.all([up, down].map(async id => JSON.stringify(await tokenizer.decode([id]))));
console.log(
  `${clean} ... leans to ${words[0]}, ${corrupted} ... to ${words[1]}; share of the way back, in percent:\n`,
);

const columns = await Promise.all(ids[1]!.map(async id => (await tokenizer.decode([id])).trim().slice(0, 8)));
console.log(`layer ${columns.map(word => word.padStart(9)).join('')}`);
for (let layer = 0; layer <= layers; layer++) {
  const shares: string[] = [];
  for (let token = 0; token < tokens; token++) {
    const patched = await answer(ids[1]!, (at, stream) => {
      if (at === layer) recorder.copy(rowOf(layer, token), stream.rows(token, 1));
    });
    const share = (leaning(patched) - leaning(other)) / (leaning(wanted) - leaning(other));
    shares.push((100 * share).toFixed(1).padStart(9));
  }
  console.log(`${String(layer).padStart(5)} ${shares.join('')}`);
}
