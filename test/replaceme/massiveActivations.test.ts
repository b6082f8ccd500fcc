/** Least squares that a few massive activations spoil: said before the fit, on models that build and end them. Costs 5 s. */
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32 } from '../../engine/index.js';
import { Batch, forward, Model } from '../../model/index.js';
import { addMassive, massiveWarning, noMassiveSums } from '../../replaceme/fits/massiveActivations.js';
import { prune } from '../../replaceme/index.js';
import { methodNamed } from '../../replaceme/methods/index.js';
import type { PruneOptions } from '../../replaceme/options/pruneOptions.js';
import { tinyConfig } from '../tinyModel.js';
import { options, plainBatches, repairContext, workplace } from './workplace.js';

const device = await Device.open();
test.after(() => device.close());

const { hidden_size: hidden, intermediate_size: intermediate } = tinyConfig;
/** "S", with which every sentence of the calibration text begins. */
const SINK = 83;

/** Dimension 0 tells the token from all others; layer 3 makes it massive in dimension 5. */
function planted(name: string, values: Float32Array): void {
  if (name.includes('embed_tokens')) {
    for (let at = 0; at < values.length; at += hidden) values[at] = at / hidden === SINK ? 3 : 0;
  }
  if (/o_proj|down_proj/.test(name)) values.fill(0, 0, values.length / hidden);
  if (!name.includes('layers.3.')) return;
  if (/gate_proj|up_proj/.test(name)) values.fill(0, 0, hidden)[0] = 4;
  if (name.includes('down_proj')) {
    for (let row = 0; row < hidden; row++) values[row * intermediate] = row === 5 ? 20 : 0;
  }
}

const sequences = Array.from({ length: 40 }, (_, s) =>
  Array.from({ length: 24 }, (_, i) => (i === 3 ? SINK : (s * 31 + i * i * 7 + ((s * i) % 11) * 5) % 80)),
);

/** The share of |L_j - L_i|² that the token has, on the host. */
async function shareOnHost(model: Model, layer: number, count: number): Promise<number> {
  const [of, all] = [0, 0];
  const sums = { of, all };
  for (const ids of sequences) {
    using batch = new Batch(device, [ids]);
    using before = forward(model, batch, { to: layer + 1 });
    using after = forward(model, batch, { to: layer + count + 1 });
    const [a, b] = [await downloadF32(before), await downloadF32(after)];
    for (let at = 0; at < a.length; at++) {
      const square = (b[at]! - a[at]!) ** 2;
      sums.all += square;
      if (ids[Math.floor(at / hidden)] === SINK) sums.of += square;
    }
  }
  return sums.of / sums.all;
}

async function warningsOf(model: Model, method: string, layer: number, count: number) {
  const notices: string[] = [];
  const context = repairContext(model, plainBatches(sequences, 128), { alpha: 0.01 });
  const { changes, warnings = [] } = await methodNamed(method).repair(
    { ...context, onNotice: text => notices.push(text) },
    [{ layer, count }],
  );
  for (const weights of changes.layers?.values() ?? []) {
    for (const tensor of Object.values(weights)) tensor?.dispose();
  }
  assert.equal(notices, warnings, 'said once while it runs, and once in the report');
  return warnings;
}

test('windows that build or end massive activations are warned of, others are not', async () => {
  using place = await workplace({ values: planted });
  await using model = await Model.load(device, place.model);
  const built = await warningsOf(model, 'replaceme-ls', 2, 2);
  assert.is(built.length, 1);
  assert.match(built[0]!, /layers 3 to 4 build or end massive activations, and 40 tokens with them/);
  const share = Number(/have ([\d.]+) % of/.exec(built[0]!)![1]);
  assert.ok(Math.abs(share - 100 * (await shareOnHost(model, 2, 2))) < 0.051);
  assert.match(built[0]!, /choose the method refit/);
  assert.is((await warningsOf(model, 'replaceme-diagonal', 2, 1)).length, 1);
  // They are there before and after.
  assert.equal(await warningsOf(model, 'replaceme-ls', 3, 1), []);
  assert.equal(await warningsOf(model, 'replaceme-ls', 0, 2), []);
  assert.equal(await warningsOf(model, 'refit', 2, 2), []);
});

test('a model without massive activations stays quiet', async () => {
  using place = await workplace();
  await using model = await Model.load(device, place.model);
  for (const layer of [0, 2, 3]) assert.equal(await warningsOf(model, 'replaceme-ls', layer, 2), []);
});

test('tokens count that are massive before the window, or after it', () => {
  const norms = (...few: number[]) => Float32Array.from([1, 1, 1, ...few]);
  const sums = noMassiveSums();
  addMassive(
    sums,
    {
      ...{ layerOutput: norms(10, 11, 1), target: norms(10, 1, 99) },
      ...{ change: norms(5, 6, 7), mlpOutput: norms(2, 3, 4) },
    },
    2,
  );
  assert.equal(sums, {
    massiveTokens: 2,
    massiveTargetSquares: 2 * (36 + 49),
    outputSquares: 2 * (3 + 4 + 9 + 16),
    massiveOutputSquares: 2 * (9 + 16),
  });
});

test('a layer whose own MLP tells these tokens from others can be mapped', () => {
  const sums = { tokens: 9, targetSquares: 10, massiveTokens: 1, massiveTargetSquares: 9, outputSquares: 8 };
  const window = { layer: 1, count: 1 };
  assert.match(massiveWarning(window, { ...sums, massiveOutputSquares: 3 })!, /1 token .* have 90\.0 %/);
  assert.is(massiveWarning(window, { ...sums, massiveOutputSquares: 5 }), undefined);
});

test('the report has the warning, which is true; so has a run from kept sums', async () => {
  using place = await workplace({ values: planted });
  const statistics = join(place.path, 'sums.safetensors');
  const run = async (name: string, more: PruneOptions = {}) => {
    const notices: string[] = [];
    // Nothing but the token's embedding is in dimension 0: the ridge decides there.
    const wanted = {
      window: 2,
      alpha: 0.01,
      device,
      statistics,
      onNotice: (text: string) => notices.push(text),
      ...more,
    };
    const report = await prune(place.model, join(place.path, name), options(place.calibration, wanted));
    return { report, notices };
  };
  const { report, notices } = await run('first');
  const about = (texts: readonly string[]) => texts.filter(text => text.startsWith('least squares will'));
  assert.is(about(report.warnings).length, 1);
  assert.equal(about(notices), about(report.warnings));
  const klOf = (role: string) => report.evaluation!.models.find(model => model.role === role)!.eval[0]!.kl;
  assert.ok(klOf('result') > klOf('plain'), `${klOf('result')}, plain removal ${klOf('plain')}`);
  const second = await run('second', { alpha: 1, report: 'none' });
  assert.equal(about(second.report.warnings), about(report.warnings));
});

test.run();
