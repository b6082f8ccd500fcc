/**
 * Reads activations with taps: the norm of the residual stream after every layer, the norm of each MLP's output, and the
 * token with the largest activation.
 *
 *   node dist/examples/activations.js [MODEL [TEXT]]      default: the demo model
 */
import { Device, downloadF32, Scope } from 'rm-engine/engine';
import { rowNorms } from 'rm-engine/kernels';
import { Batch, forward, loadTokenizer, Model } from 'rm-engine/model';
import { shippedPath } from 'rm-engine/replaceme';

const [folder = shippedPath('demo-model'), text = 'It is a truth universally acknowledged.'] =
  process.argv.slice(2);

await using device = await Device.open();
using model = await Model.load(device, folder);
const tokenizer = await loadTokenizer(folder);
const ids = await tokenizer.encode(text);

using scope = new Scope(device);
using batch = new Batch(device, [ids]);
const norms = Array.from({ length: model.arch.layers }, () => ({
  stream: scope.tensor([batch.tokens]),
  mlp: scope.tensor([batch.tokens]),
}));

// `forward` calls the tap while it records the layer. The tap's tensors live only during the call, so record the kernels
// that read them here, and let these write into tensors of your own.
using hidden = forward(model, batch, {
  tap: (layer, { layerOutput, mlpOutput }) => {
    rowNorms(device.recorder, layerOutput, norms[layer]!.stream);
    rowNorms(device.recorder, mlpOutput, norms[layer]!.mlp);
  },
});

const mean = (list: Float32Array) => list.reduce((sum, value) => sum + value, 0) / list.length;
console.log('layer  |residual stream|  |MLP output|');
for (const [layer, { stream, mlp }] of norms.entries()) {
  const cells = [mean(await downloadF32(stream)), mean(await downloadF32(mlp))];
  console.log(`${String(layer).padStart(5)}  ${cells.map(cell => cell.toFixed(3).padStart(14)).join('  ')}`);
}

const last = (await downloadF32(hidden)).map(Math.abs);
const largest = last.indexOf(last.reduce((a, b) => Math.max(a, b)));
const token = Math.floor(largest / model.arch.hidden);
console.log(
  `largest activation ${last[largest]!.toFixed(2)}: channel ${largest % model.arch.hidden} of token ${token}, ` +
    JSON.stringify(await tokenizer.decode([ids[token]!])),
);
