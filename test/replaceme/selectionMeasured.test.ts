import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, Scope } from '../../engine/index.js';
import { evaluate, type LayerWeights, Model } from '../../model/index.js';
import { HiddenStates } from '../../replaceme/activations/hiddenStates.js';
import { PrunedModel } from '../../replaceme/activations/prunedModel.js';
import { methodNamed } from '../../replaceme/methods/index.js';
import { keptLayers } from '../../replaceme/run/window.js';
import type { WindowScores } from '../../replaceme/run/windowChoice.js';
import { selectionNamed } from '../../replaceme/selections/index.js';
import type { SelectionContext } from '../../replaceme/selections/selection.js';
import { shortList } from '../../replaceme/selections/shortList.js';
import { splitHalves } from '../../replaceme/selections/splitHalves.js';
import { windowMap } from '../../replaceme/windowMap/windowMap.js';
import { normals } from '../gpu.js';
import { plainBatches, repairContext, workplace } from './workplace.js';

const device = await Device.open();
const place = await workplace();
const model = await Model.load(device, place.model);
const sequences = Array.from({ length: 12 }, (_, s) =>
  Array.from(normals(48, 70 + s), value => Math.floor(Math.abs(value) * 1e4) % 256),
);
const batches = plainBatches(sequences, 96);
const measuring = { fitTokens: 192, heldOutTokens: 96, candidates: 20, finalists: 2 };

const contextFor = (name: string, more: Partial<SelectionContext> = {}): SelectionContext => ({
  ...repairContext(model, batches),
  count: 2,
  windowCount: 1,
  apart: false,
  method: methodNamed(name),
  measuring,
  ...more,
});

test('halves: fit on both, judged on sequences of half 1 that no fit sees', () => {
  const { fit, heldOut } = splitHalves(batches, measuring)!;
  assert.equal(
    fit.map(({ half }) => half),
    [0, 1],
  );
  assert.equal(heldOut, batches[3]!.sequences);
  assert.not.ok(fit.some(batch => batch === batches[3]));
  // One batch of half 1: its sequences are divided.
  const few = splitHalves(batches.slice(0, 2), measuring)!;
  assert.equal(few.heldOut, [sequences[3]]);
  assert.equal(
    few.fit.map(batch => batch.sequences),
    [batches[0]!.sequences, [sequences[2]]],
  );
  assert.is(splitHalves(batches.slice(0, 1), measuring), undefined);
  // Padding is not judged.
  const padded = batches.map(batch => ({ ...batch, lengths: [48, 7] }));
  assert.equal(
    splitHalves(padded, measuring)!.heldOut.map(({ length }) => length),
    [48, 7],
  );
});

/** KL and loss on `sequences` of the model that a method makes of some windows, without the selection. */
async function judged(
  { method, settings }: Pick<SelectionContext, 'method' | 'settings'>,
  fit: SelectionContext['batches'],
  windows: WindowScores['windows'],
  sequences = splitHalves(batches, measuring)!.heldOut,
): Promise<{ kl: number; nll: number }> {
  const repair = await method.repair(repairContext(model, fit, settings), windows);
  using pruned = new PrunedModel(model, windows, repair.changes);
  const { kl, nll } = await evaluate(pruned.model, sequences, { against: model });
  return { kl: kl!, nll };
}

const near = (value: number, expected: number, name: string) =>
  assert.ok(Math.abs(value - expected) < 1e-5 * expected, `${name}: ${value}, not ${expected}`);

test('two rounds: windows alone on a part, the best in full; each as evaluate finds it for the repaired model', async () => {
  using states = new HiddenStates(device, model.arch);
  const context = contextFor('refit', { states });
  const choice = await selectionNamed('measured').select(context);
  const candidates = choice.candidates!;
  // Four single windows, and the six pairs of layers of five that do not touch.
  assert.is(candidates.length, 10);
  assert.equal(choice.windows, candidates[0]!.windows);
  const { fit, heldOut } = splitHalves(batches, measuring)!;
  const [finalists, others] = [candidates.slice(0, 2), candidates.slice(2)];
  for (const { windows, kl, nll, tokens, healed } of finalists) {
    const expected = await judged(context, fit, windows);
    near(kl, expected.kl, 'KL');
    near(nll, expected.nll, 'loss');
    assert.equal([tokens, healed], [96, false]);
  }
  assert.ok(finalists[0]!.kl <= finalists[1]!.kl);
  // Each half has one batch to fit on, so only the judges are fewer: one of two sequences.
  for (const { windows, kl, tokens } of others) {
    assert.is(tokens, 48);
    const layers = new Map<number, Partial<LayerWeights>>();
    using owned = new Scope(device);
    for (const window of windows) {
      const { changes } = await context.method.repair(repairContext(model, fit), [window]);
      for (const [layer, weights] of changes.layers!) {
        layers.set(layer, weights);
        for (const tensor of Object.values(weights)) owned.own(tensor!);
      }
    }
    const apart = model.withLayers(keptLayers(windows, model.arch.layers), { layers });
    const expected = await evaluate(apart, heldOut.slice(0, 1), { against: model });
    near(kl, expected.kl!, JSON.stringify(windows));
  }
  // What the walk has kept is still there for the fit.
  assert.ok(states.peek(fit[0]!.sequences, 3));
});

test('as many finalists as candidates: all are judged in full, and the best of all wins', async () => {
  const context = contextFor('refit', { measuring: { ...measuring, finalists: 20 } });
  const { candidates, windows } = await selectionNamed('measured').select(context);
  const { fit } = splitHalves(batches, measuring)!;
  const all = await Promise.all(
    candidates!.map(async ({ kl, tokens, windows: of }) => {
      assert.is(tokens, 96);
      near(kl, (await judged(context, fit, of)).kl, 'KL');
      return kl;
    }),
  );
  assert.is(candidates![0]!.kl, Math.min(...all));
  assert.equal(windows, candidates![0]!.windows);
});

for (const [name, heal] of [
  ['plain', false],
  ['replaceme-ls', false],
  ['replaceme-ls', true],
  ['replaceme-cosine', false],
  ['transplant', false],
  ['transplant-heal', false],
] as const) {
  test(`finalists are judged by ${name}${heal ? ' with healing' : ''} as they would be written`, async () => {
    const few = { ...measuring, candidates: 2, finalists: 1 };
    const settings = { alpha: 0, heal };
    const context = contextFor(name, { settings, measuring: few });
    const { candidates } = await selectionNamed('measured').select(context);
    const heals = heal || context.method.unhealed !== undefined;
    assert.equal(
      candidates!.map(({ healed }) => healed),
      [heals, false],
    );
    const [{ windows, kl }] = candidates! as [WindowScores];
    // Healing has half of all tokens to fit on.
    const fitTokens = heals ? 288 : measuring.fitTokens;
    const { fit } = splitHalves(batches, { ...measuring, fitTokens })!;
    near(kl, (await judged(context, fit, windows)).kl, name);
  });
}

test('where a method changes all layers before a window, the first round repairs whole sets', async () => {
  const context = contextFor('prune-and-comp');
  const { candidates } = await selectionNamed('measured').select(context);
  const { fit, heldOut } = splitHalves(batches, measuring)!;
  const pair = candidates!.slice(2).find(({ windows }) => windows.length > 1)!;
  near(pair.kl, (await judged(context, fit, pair.windows, heldOut.slice(0, 1))).kl, 'KL');
});

test('a method that heals judges finalists with healing, one that begins early among them', async () => {
  const { candidates, windows } = await selectionNamed('measured').select(contextFor('refit-heal'));
  assert.equal(
    candidates!.map(({ healed }) => healed),
    [true, true, ...new Array(candidates!.length - 2).fill(false)],
  );
  assert.ok(candidates![0]!.kl <= candidates![1]!.kl);
  assert.equal(windows, candidates![0]!.windows);
  assert.ok(candidates!.slice(0, 2).some(({ windows: [first] }) => first!.layer < 2));
});

test('with too little text to hold any back, cosine decides', async () => {
  const choice = await selectionNamed('measured').select(
    contextFor('refit', { batches: batches.slice(0, 1) }),
  );
  assert.is(choice.by, 'mean cosine distance, for lack of held-out texts');
  assert.is(choice.candidates, undefined);
});

test('the short list takes the best of every ranking in turn', async () => {
  const map = await windowMap(model, batches, { longest: 3 });
  const single = map.windows.filter(({ count }) => count === 3);
  const repaired = [...single].sort((a, b) => a.cosine * a.unexplained - b.cosine * b.unexplained);
  const [first] = shortList(map, 3, 1, 4);
  assert.equal(first, [{ layer: repaired[0]!.layer, count: 3 }]);
  for (const sets of shortList(map, 3, 9, 1)) assert.is(sets.length, 1);
  const some = shortList(map, 3, 9, 3);
  assert.is(new Set(some.map(set => JSON.stringify(set))).size, some.length);
  assert.ok(some.some(({ length }) => length === 2));
  for (const set of some) {
    assert.is(
      set.reduce((sum, { count }) => sum + count, 0),
      3,
    );
  }
  const windows = [1, 2, 3, 4, 5].flatMap(count =>
    Array.from({ length: 12 - count }, (_, layer) => ({
      ...{ layer, count, cosine: 1, residual: 1, unexplained: 1 },
    })),
  );
  const five = shortList({ layers: 12, tokens: 1, windows }, 5, 12, 5);
  assert.ok(
    five.some(({ length }) => length === 5),
    'as many windows as are asked for',
  );
});

test.after(async () => {
  model.dispose();
  place[Symbol.dispose]();
  await device.close();
});

test.run();
