import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, evaluate, loadTokenizer, Model } from '../index.js';
import { logits } from '../model/index.js';
import { shippedPath } from '../replaceme/index.js';
import { mustRun, root } from './packed.js';
import { temporaryFolder } from './support.js';

const examples = fileURLToPath(new URL('../examples/', import.meta.url));

/** What an example prints; it must end well. */
const printed = (name: string, args: readonly string[] = []): Promise<string> =>
  mustRun(root, process.execPath, [join(examples, `${name}.js`), ...args]);

/** The number behind `label` in a line of `text`. */
function numberAfter(text: string, label: string): number {
  const found = new RegExp(`${label} +([\\d.e+-]+)`).exec(text);
  assert.ok(found, `'${label}' in:\n${text}`);
  return Number(found[1]);
}

test('every example is run here', () => {
  const names = readdirSync(examples).filter(name => name.endsWith('.js'));
  // The demo is what `npm run demo` runs.
  assert.equal(names.map(name => basename(name, '.js')).sort(), [
    'activations',
    'demo',
    'ownKernel',
    'powerIteration',
    'prune',
  ]);
});

test('powerIteration finds the eigenvalue', async () => {
  const text = await printed('powerIteration');
  const exact = 1 / (4 * Math.sin(Math.PI / 2050) ** 2);
  assert.ok(Math.abs(numberAfter(text, 'eigenvalue') / exact - 1) < 1e-6, text);
  assert.ok(Math.abs(numberAfter(text, 'closed form') / exact - 1) < 1e-12, text);
});

test('ownKernel agrees with the host and is timed', async () => {
  const text = await printed('ownKernel');
  assert.ok(numberAfter(text, 'largest relative error') < 1e-5, text);
  assert.ok(numberAfter(text, 'wall clock') > 0, text);
});

test('activations: norms are those of the hidden states', async () => {
  const source = shippedPath('demo-model');
  const words = 'Mr. Bennet made no answer.';
  const text = await printed('activations', [source, words]);
  await using device = await Device.open();
  using model = await Model.load(device, source);
  const { hidden } = await logits(model, await (await loadTokenizer(source)).encode(words), { taps: true });
  const { hidden: width, layers } = model.arch;
  const rows = [...text.matchAll(/^ +(\d+) +([\d.]+) +([\d.]+)$/gm)];
  assert.is(rows.length, layers);
  for (const [, layer, norm] of rows) {
    const state = hidden!.layers[Number(layer)]!;
    let sum = 0;
    for (let at = 0; at < state.length; at += width) sum += Math.hypot(...state.subarray(at, at + width));
    const expected = sum / (state.length / width);
    assert.ok(Math.abs(Number(norm) / expected - 1) < 1e-3, `layer ${layer}: ${norm}, expected ${expected}`);
  }
});

test('prune writes a model and prints what it is worth', async () => {
  using folder = temporaryFolder();
  const out = join(folder.path, 'pruned');
  const source = shippedPath('demo-model');
  const text = await printed('prune', [source, out]);
  assert.match(text, /4 of 12 layers/);
  await using device = await Device.open();
  using pruned = await Model.load(device, out);
  using dense = await Model.load(device, source);
  assert.is(pruned.arch.layers, 8);
  const sentence = 'She was then obliged to return home, and could think of nothing but the letter.';
  const ids = await (await loadTokenizer(source)).encode(sentence);
  assert.is(numberAfter(text, 'perplexity'), Number((await evaluate(pruned, [ids])).perplexity.toFixed(2)));
  assert.is(
    numberAfter(text, 'of the original'),
    Number((await evaluate(dense, [ids])).perplexity.toFixed(2)),
  );
});

test.run();
