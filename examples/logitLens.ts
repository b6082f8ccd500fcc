/**
 * The logit lens: what the model would say next if it ended after each layer, by the output head that it has at its end.
 *
 *   node dist/examples/logitLens.js [MODEL [TEXT]]      default: the demo model
 */
import { Device, downloadF32, downloadU32, Scope } from 'rm-engine/engine';
import { softmax, topK } from 'rm-engine/kernels';
import { Batch, finalNorm, forward, loadTokenizer, Model, tokenLogits } from 'rm-engine/model';
import { shippedPath } from 'rm-engine/replaceme';

const TOP = 3;
const [folder = shippedPath('demo-model'), text = 'It is a truth universally'] = process.argv.slice(2);

await using device = await Device.open();
using model = await Model.load(device, folder);
using tokenizer = await loadTokenizer(folder);
using scope = new Scope(device);
using batch = new Batch(device, [await tokenizer.encode(text)]);
const { layers, hidden, vocab } = model.arch;

// Row i is the last token's state before layer i; the row behind them leaves the last layer.
const states = scope.tensor([layers + 1, hidden]);
const { recorder } = device;
const last = batch.tokens - 1;
using _output = forward(model, batch, {
  edit: { residual: (layer, stream) => recorder.copy(stream.rows(last, 1), states.rows(layer, 1)) },
});

const logits = scope.own(tokenLogits(model, scope.own(finalNorm(model, states))));
const probabilities = scope.tensor([layers + 1, vocab]);
const values = scope.tensor([layers + 1, TOP]);
const ids = scope.tensor([layers + 1, TOP], 'u32');
softmax(recorder, logits, probabilities);
topK(recorder, probabilities, values, ids);

const [shares, tokens] = [await downloadF32(values), await downloadU32(ids)];
for (let layer = 0; layer <= layers; layer++) {
  const words = Array.from({ length: TOP }, async (_, k) => {
    const word = JSON.stringify(await tokenizer.decode([tokens[layer * TOP + k]!]));
    return `${word.padEnd(14)} ${(100 * shares[layer * TOP + k]!).toFixed(1).padStart(5)} %`;
  });
  console.log(`${String(layer).padStart(3)}  ${(await Promise.all(words)).join('  ')}`);
}
