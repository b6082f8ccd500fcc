import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ReferenceStates } from '../../model/evaluation/referenceStates.js';
import { logits, type Model } from '../../model/index.js';
import { methodNamed, methods } from '../../replaceme/methods/index.js';
import { removedLayers } from '../../replaceme/run/window.js';
import { angular } from '../../replaceme/selections/angular.js';
import { blockInfluence, blockInfluences } from '../../replaceme/selections/blockInfluence.js';
import type { SelectionContext } from '../../replaceme/selections/index.js';
import { selections } from '../../replaceme/selections/index.js';
import { laco, mergedSimilarity } from '../../replaceme/selections/laco.js';
import { lossWithoutLayers, perplexity } from '../../replaceme/selections/perplexity.js';
import { maxAbsError, rejectsWith } from '../gpu.js';
import { cosineOf, hostStates, mean, openTiny, readTensor, rowsOf, sequences } from './rivals.js';
import { repairContext } from './workplace.js';

const tiny = await openTiny();
const { model, batches, device, place } = tiny;
const host = await Promise.all(sequences.map(ids => hostStates(model, ids)));
test.after(() => tiny[Symbol.asyncDispose]());

const context = (count: number, more: Partial<SelectionContext> = {}): SelectionContext => ({
  ...repairContext(model, batches),
  count,
  windowCount: 1,
  apart: false,
  method: methodNamed('plain'),
  ...more,
});

test('angular: mean angle of the last tokens in f64, padding left out', async () => {
  const expected = Array.from({ length: 4 }, (_, i) =>
    mean(
      host.map(({ states }) => Math.acos(cosineOf(states[i + 1]!.at(-1)!, states[i + 3]!.at(-1)!)) / Math.PI),
    ),
  );
  const { windows, distances } = await angular.select(context(2));
  assert.ok(maxAbsError(distances!, expected) < 1e-5, `${distances} against ${expected}`);
  assert.equal(windows, [{ layer: expected.indexOf(Math.min(...expected)), count: 2 }]);

  const longest = Math.max(...sequences.map(ids => ids.length));
  const padded = sequences.map(ids => [...ids, ...new Array<number>(longest - ids.length).fill(256)]);
  const lengths = sequences.map(ids => ids.length);
  const withPads = await angular.select(
    context(2, { batches: [{ sequences: padded, lengths, half: 0, weight: 1 }] }),
  );
  assert.ok(maxAbsError(withPads.distances!, expected) < 1e-5);
});

test('block influence: 1 - mean cosine of every layer in f64; the lowest go, wherever they are', async () => {
  const expected = Array.from({ length: 6 }, (_, layer) =>
    mean(
      host.flatMap(({ states }) => states[layer]!.map((row, t) => 1 - cosineOf(row, states[layer + 1]![t]!))),
    ),
  );
  assert.ok(maxAbsError(await blockInfluences(model, batches), expected) < 1e-5);
  const { windows } = await blockInfluence.select(context(3));
  const lowest = [...expected.keys()].sort((a, b) => expected[a]! - expected[b]!).slice(0, 3);
  assert.equal(
    removedLayers(windows),
    lowest.sort((a, b) => a - b),
  );
});

/** Mean -log p of the next tokens in f64, from logits. */
async function loss(of: Model): Promise<number> {
  const losses: number[] = [];
  for (const ids of sequences) {
    const rows = rowsOf((await logits(of, ids)).logits, of.arch.vocab);
    for (let t = 0; t + 1 < ids.length; t++) {
      const logSum = Math.log(rows[t]!.reduce((sum, value) => sum + Math.exp(value), 0));
      losses.push(logSum - rows[t]![ids[t + 1]!]!);
    }
  }
  return mean(losses);
}

test('perplexity: one layer after the other, as brute force with losses in f64; the ends stay', async () => {
  let keep = [0, 1, 2, 3, 4, 5];
  for (let round = 0; round < 3; round++) {
    const found = await lossWithoutLayers(model.withLayers(keep), sequences);
    assert.is(found[0], Number.POSITIVE_INFINITY);
    assert.is(found.at(-1), Number.POSITIVE_INFINITY);
    const expected: number[] = [];
    for (const gone of keep.slice(1, -1)) {
      expected.push(await loss(model.withLayers(keep.filter(layer => layer !== gone))));
    }
    assert.ok(maxAbsError(found.slice(1, -1), expected) < 1e-5, `${found} against ${expected}`);
    keep = keep.filter((_, i) => i !== 1 + expected.indexOf(Math.min(...expected)));
  }
  const steps: number[] = [];
  const { windows, by } = await perplexity.select(
    context(3, {
      onProgress: ({ done, total }) => {
        assert.is(total, 4 + 3 + 2);
        steps.push(done);
      },
    }),
  );
  assert.equal(
    removedLayers(windows),
    [0, 1, 2, 3, 4, 5].filter(layer => !keep.includes(layer)),
  );
  assert.equal(steps, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.match(by, '185 tokens');
  assert.match(await rejectsWith(() => perplexity.select(context(5)), 'INVALID_ARGUMENT'), '5 of 6');
});

test('LaCo: similarity of merged models in f64, merges from the last layer down', async () => {
  using original = await ReferenceStates.of(model, sequences, { batchTokens: 1, stateBytes: 2 ** 20 });
  /** The model with merged layers, made on the host from the checkpoint. */
  const similarity = async (layer: number, count: number) => {
    const merged = await openTiny({
      values: (name, values) => {
        const inLayer = new RegExp(`^model\\.layers\\.${layer}\\.(.*)$`).exec(name);
        if (inLayer) values.set(sums.get(inLayer[1]!)!);
      },
    });
    await using _ = merged;
    const keep = [0, 1, 2, 3, 4, 5].filter(i => i <= layer || i > layer + count);
    const candidate = merged.model.withLayers(keep);
    const finals = await Promise.all(sequences.map(async ids => (await hostStates(candidate, ids)).final));
    return mean(finals.map((final, s) => cosineOf(final.flat(), host[s]!.final.flat())));
  };
  const sums = new Map<string, Float32Array>();
  const found: number[] = [];
  const names = [...model.tensors.keys()].flatMap(name => /^model\.layers\.0\.(.*)$/.exec(name)?.[1] ?? []);
  for (const layer of [2, 1, 0]) {
    for (const name of names) {
      const of = (at: number) => readTensor(place.model, `model.layers.${at}.${name}`);
      const [kept, first, second] = [await of(layer), await of(layer + 1), await of(layer + 2)];
      sums.set(
        name,
        Float32Array.from(kept, (value, i) => value + (first[i]! - value) + (second[i]! - value)),
      );
    }
    const expected = await similarity(layer, 2);
    found.push(await mergedSimilarity(original, [{ layer, count: 2 }], 'paper'));
    assert.ok(Math.abs(found.at(-1)! - expected) < 1e-4, `layer ${layer}: ${found} against ${expected}`);
  }
  // One merge of 3 layers into one is all that 2 layers need: the highest threshold that any candidate passes.
  const { windows, by } = await laco.select(context(2));
  const steps = found.map(value => Math.ceil(value * 20) - 1);
  const best = steps.indexOf(Math.max(...steps));
  assert.equal(windows, [{ layer: 2 - best, count: 2 }]);
  assert.match(by, `above ${steps[best]! / 20}`);
  for (const count of [1, 3, 4, 5]) {
    const chosen = (await laco.select(context(count))).windows;
    assert.is(removedLayers(chosen).length, count);
    assert.ok(chosen.every(({ layer }) => layer >= 0));
  }
});

test('every method names a selection that there is; nothing stays on the device', () => {
  const names = selections.map(({ name }) => name);
  assert.is(new Set(names).size, names.length);
  for (const { name, selection } of methods) assert.ok(names.includes(selection), name);
  assert.ok(device.memory.liveBytes > 0);
});

test.run();
