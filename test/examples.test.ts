// Every program of examples/, each in a process of its own. Costs 27 s.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
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
    ...['activations', 'demo', 'foreignDevice', 'logitLens', 'microbenchmark', 'ownKernel', 'patching'],
    ...['powerIteration', 'prune', 'ridgeRegression', 'semanticSearch', 'server', 'training'],
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
  for (const name of ['own', 'packaged']) assert.ok(numberAfter(text, name) > 0, text);
});

test('microbenchmark times every variant and a kernel of two', async () => {
  const lines = (await printed('microbenchmark', ['16', '64', '64'])).trim().split('\n').slice(1);
  assert.ok(lines.length > 2);
  for (const line of lines)
    assert.match(line, /^matmul(, then map)? 16x64x64(: \S.*)? +[\d.]+ ms +[\d.]+ GFLOP\/s$/);
});

test('foreignDevice: the engine and another program compute on one buffer', async () => {
  assert.match(await printed('foreignDevice'), /adds up to 256\.000 of 256/);
});

test('ridgeRegression agrees with an f64 solve', async () => {
  assert.ok(numberAfter(await printed('ridgeRegression'), 'error beside f64') < 1e-8);
});

test('training: a line does not divide two rings, a hidden layer does', async () => {
  const text = await printed('training');
  const [line, curve] = [...text.matchAll(/right ([\d.]+) %/g)].map(match => Number(match[1]));
  assert.ok(line! > 30 && line! < 70 && curve! > 95, text);
});

test('semanticSearch finds the text that says nearly the same', async () => {
  const [query, nearest] = (await printed('semanticSearch')).split('\n');
  assert.match(query!, /1\.000 +the query/);
  assert.match(nearest!, /Her father laughed at his wife/);
});

test("logitLens: the last row is the model's own answer", async () => {
  const source = shippedPath('demo-model');
  const words = 'It was a';
  const lines = (await printed('logitLens', [source, words])).trimEnd().split('\n');
  await using device = await Device.open();
  using model = await Model.load(device, source);
  assert.is(lines.length, model.arch.layers + 1);
  using tokenizer = await loadTokenizer(source);
  const all = (await logits(model, await tokenizer.encode(words))).logits.slice(-model.arch.vocab);
  const sum = all.reduce((total, value) => total + Math.exp(value), 0);
  const first = all.indexOf(Math.max(...all));
  const share = (100 * Math.exp(all[first]!)) / sum;
  const [, word, percent] = /^ *\d+ {2}(".*?") +([\d.]+) %/.exec(lines.at(-1)!)!;
  assert.is(word, JSON.stringify(await tokenizer.decode([first])));
  assert.ok(Math.abs(Number(percent) - share) < 0.06, `${percent} %, not ${share}`);
});

test('patching: the word that differs is all of the difference at first, the last token at the end', async () => {
  const rows = [...(await printed('patching')).matchAll(/^ +\d+((?: +-?[\d.]+)+)$/gm)].map(match =>
    match[1]!.trim().split(/ +/).map(Number),
  );
  assert.equal(rows[0], [100, 0, 0, 0, 0, 0]);
  assert.equal(rows.at(-1), [0, 0, 0, 0, 0, 100]);
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

test('server answers at the address that it prints, and ends with Ctrl-C', async () => {
  const child = spawn(process.execPath, [join(examples, 'server.js')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [address] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  const response = await fetch(`${address}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'It is a truth', max_tokens: 3 }),
  });
  const { usage } = (await response.json()) as { usage: { completion_tokens: number } };
  assert.is(usage.completion_tokens, 3);
  child.kill('SIGINT');
  assert.is((await once(child, 'exit'))[0], 0);
});

test.run();
