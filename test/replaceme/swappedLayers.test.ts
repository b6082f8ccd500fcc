import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { logits, Model } from '../../model/index.js';
import { swapNeighbours } from '../../replaceme/windowMap/swappedLayers.js';
import { normals } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';

// Costs 5 s: each of five swaps is compared with a folder whose layers are stored in that order.

const sequences = Array.from({ length: 3 }, (_, s) =>
  Array.from(normals(20 + s, 90 + s), value => Math.floor(Math.abs(value) * 1e4) % 256),
);

/** log p of every next token, by position, in f64. */
async function logProbabilities(model: Model, ids: readonly number[]): Promise<number[][]> {
  const { vocab } = model.arch;
  const values = (await logits(model, ids)).logits;
  return ids.map((_, t) => {
    const row = Array.from(values.subarray(t * vocab, (t + 1) * vocab));
    const top = Math.max(...row);
    const sum = Math.log(row.reduce((total, value) => total + Math.exp(value - top), 0)) + top;
    return row.map(value => value - sum);
  });
}

test('a swap costs the KL between the model and one whose file has the two layers exchanged', async () => {
  using folder = temporaryFolder();
  await using device = await Device.open();
  const original = new Map<string, Float32Array>();
  const write = async (name: string, values: (name: string, values: Float32Array) => void) => {
    const path = join(folder.path, name);
    mkdirSync(path);
    await writeTinyModel(path, { values });
    return path;
  };
  /** Layers 3 and 4 have the same weights, so they may change places. */
  const twins = (name: string, values: Float32Array) => {
    const twin = original.get(name.replace('layers.4.', 'layers.3.'));
    if (twin) values.set(twin);
    original.set(name, values.slice());
  };
  await using model = await Model.load(device, await write('original', twins));
  const swaps = await swapNeighbours(model, sequences, { batchTokens: 32 });
  assert.equal(
    swaps.map(({ layer }) => layer),
    [0, 1, 2, 3, 4],
  );
  const before = await Promise.all(sequences.map(ids => logProbabilities(model, ids)));
  for (const { layer, kl } of swaps) {
    const other = new Map([
      [layer, layer + 1],
      [layer + 1, layer],
    ]);
    const from = (name: string) => name.replace(/layers\.(\d+)/, (_, l) => `layers.${other.get(+l) ?? l}`);
    const path = await write(`swap${layer}`, (name, values) => values.set(original.get(from(name))!));
    await using swapped = await Model.load(device, path);
    let [sum, predictions] = [0, 0];
    for (const [s, ids] of sequences.entries()) {
      const after = await logProbabilities(swapped, ids);
      for (const [t, p] of before[s]!.slice(0, -1).entries()) {
        sum += p.reduce((total, logp, token) => total + Math.exp(logp) * (logp - after[t]![token]!), 0);
        predictions++;
      }
    }
    const expected = sum / predictions;
    assert.ok(Math.abs(kl - expected) < 1e-6 + 1e-4 * expected, `layer ${layer}: ${kl}, not ${expected}`);
    if (layer === 3) assert.ok(kl < 1e-9, `${kl}`);
    else assert.ok(kl > 1e-4, `${kl}`);
  }
});

test.run();
