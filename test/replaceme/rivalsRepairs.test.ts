import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { downloadF32, Tensor, tensorFrom } from '../../engine/index.js';
import { convert } from '../../kernels/map/named.js';
import { logits, type Model } from '../../model/index.js';
import { PrunedModel } from '../../replaceme/activations/prunedModel.js';
import { hadamard, hasHadamard } from '../../replaceme/fits/hadamard.js';
import { mergedLayer } from '../../replaceme/fits/mergedLayer.js';
import { prune } from '../../replaceme/index.js';
import { linearPatch, linearPatchDiagonal } from '../../replaceme/methods/linearPatch.js';
import { foldScales, pruneAndComp } from '../../replaceme/methods/pruneAndComp.js';
import { rejectsWith, relativeError } from '../gpu.js';
import { hostStates, mean, norm, openTiny, readTensor, sequences } from './rivals.js';
import { options, repairContext, workplace } from './workplace.js';

const biased = { config: { attention_bias: true, mlp_bias: true } };
const all = [0, 1, 2, 3, 4, 5];

async function valuesOf(tensor: Tensor): Promise<Float32Array> {
  using wide = Tensor.create(tensor.device, tensor.shape, 'f32');
  convert(tensor.device.recorder, tensor, wide);
  return downloadF32(wide);
}

test('Hadamard matrices by Sylvester and Paley: orthogonal, entries of one size', () => {
  for (const n of [1, 2, 4, 12, 20, 24, 28, 32, 36, 60, 104, 576]) {
    const matrix = hadamard(n)!;
    for (const value of matrix) assert.ok(Math.abs(Math.abs(value) - 1 / Math.sqrt(n)) < 1e-7);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++) {
        let product = 0;
        for (let k = 0; k < n; k++) product += matrix[i * n + k]! * matrix[j * n + k]!;
        assert.ok(Math.abs(product - Number(i === j)) < 1e-5, `order ${n}, rows ${i} and ${j}`);
      }
    }
  }
  for (const n of [0, 3, 6, 10, 52, 92, 2.5]) assert.is(hadamard(n), undefined);
  const published = [576, 896, 960, 1536, 2048, 2304, 2560, 3072, 3584, 4096, 5120, 6656, 8192];
  assert.ok(published.every(hasHadamard));
});

test('LaCo: theta + sum of differences in f64, every weight, norm and bias, rounded once', async () => {
  await using tiny = await openTiny(biased);
  const { model, place } = tiny;
  const merged = mergedLayer(model, { layer: 1, count: 3 }, 'paper');
  const names = model.arch.tensorNames.layers;
  const keys = Object.keys(merged) as (keyof typeof merged & keyof (typeof names)[0])[];
  assert.is(keys.length, 16);
  for (const key of keys) {
    const of = (layer: number) => readTensor(place.model, names[layer]![key] as string);
    const kept = await of(1);
    const removed = [await of(2), await of(3), await of(4)];
    const expected = kept.map((value, i) => removed.reduce((sum, other) => sum + (other[i]! - value), value));
    const tensor = merged[key]!;
    const found = await valuesOf(tensor);
    assert.is(tensor.dtype, model.weights.layers[1]![key]!.dtype);
    // Half a unit in the last of bf16's 8 bits.
    for (const [i, value] of expected.entries()) {
      assert.ok(Math.abs(found[i]! - value) <= 2 ** -8 * Math.abs(value) + 1e-6, `${key} ${i}`);
    }
    tensor.dispose();
  }
});

test('LaCo as released: the weights of the last removed layer, so plain removal of those before it', async () => {
  await using tiny = await openTiny(biased);
  const { model } = tiny;
  const merged = mergedLayer(model, { layer: 1, count: 2 }, 'released');
  const changed = model.withLayers([0, 1, 4, 5], { layers: new Map([[1, merged]]) });
  const plain = model.withLayers([0, 3, 4, 5]);
  const ids = [...sequences[0]!];
  assert.equal((await logits(changed, ids)).logits, (await logits(plain, ids)).logits);
  for (const tensor of Object.values(merged)) tensor?.dispose();
});

/** Logits of the model in which the residual stream is multiplied after some layers. */
async function scaledLogits(model: Model, scales: ReadonlyMap<number, number>): Promise<Float32Array> {
  const { hidden } = model.arch;
  const layers = new Map(
    [...scales].map(([layer, scale]) => {
      const map = Float32Array.from({ length: hidden * hidden }, (_, i) => (i % (hidden + 1) ? 0 : scale));
      return [layer, { residualMap: tensorFrom(model.device, map, [hidden, hidden]) }] as const;
    }),
  );
  const found = (await logits(model.withLayers(all, { layers }), sequences[0]!)).logits;
  for (const { residualMap } of layers.values()) residualMap.dispose();
  return found;
}

async function foldedLogits(model: Model, scales: ReadonlyMap<number, number>): Promise<Float32Array> {
  using folded = new PrunedModel(model, [], foldScales(model, scales));
  return (await logits(folded.model, sequences[0]!)).logits;
}

// Powers of two: no weight is rounded.
const scales = new Map([
  [1, 4],
  [3, 0.5],
]);

for (const tied of [true, false]) {
  for (const bias of [true, false]) {
    test(`folded scales give the logits of a scaled residual stream, tied ${tied}, biases ${bias}`, async () => {
      const config = {
        tie_word_embeddings: tied,
        attention_bias: bias,
        mlp_bias: bias,
        rms_norm_eps: 1e-12,
      };
      await using tiny = await openTiny({ config });
      const expected = await scaledLogits(tiny.model, scales);
      assert.ok(relativeError(await foldedLogits(tiny.model, scales), expected) < 1e-6);
      const { logits: original } = await logits(tiny.model, sequences[0]!);
      assert.ok(relativeError(expected, original) > 1e-2, 'the scales matter');
      // Everything scaled is nothing changed.
      assert.ok(relativeError(await foldedLogits(tiny.model, new Map([[5, 8]])), original) < 1e-6);
    });
  }
}

test('what folded scales leave of a difference is the eps of the norms, and vanishes with it', async () => {
  const errors: number[] = [];
  for (const rms_norm_eps of [1e-4, 1e-5]) {
    await using tiny = await openTiny({ config: { rms_norm_eps } });
    const expected = await scaledLogits(tiny.model, scales);
    errors.push(relativeError(await foldedLogits(tiny.model, scales), expected));
  }
  const [larger, smaller] = errors as [number, number];
  assert.ok(Math.abs(larger / smaller - 10) < 1, `${errors}`);
  assert.ok(smaller < 1e-3, `${errors}`);
});

/** Mean over all tokens of |after| / |before|. */
const ratio = (before: number[][][], after: number[][][]) =>
  mean(before.flatMap((rows, s) => rows.map((row, t) => norm(after[s]![t]!) / norm(row))));

test('Prune&Comp: factors by norms in f64, the second one behind the first', async () => {
  await using tiny = await openTiny();
  const { model, batches } = tiny;
  const windows = [
    { layer: 0, count: 1 },
    { layer: 3, count: 1 },
  ];
  const repair = await pruneAndComp.repair(repairContext(model, batches), windows);
  using pruned = new PrunedModel(model, windows, repair.changes);
  const states = async (of: Model, depth: number) =>
    Promise.all(sequences.map(async ids => (await hostStates(of, ids)).states[depth]!));
  const first = ratio(await states(model, 1), await states(model, 2));
  const { hidden } = model.arch;
  const map = Float32Array.from({ length: hidden * hidden }, (_, i) => (i % (hidden + 1) ? 0 : first));
  using residualMap = tensorFrom(model.device, map, [hidden, hidden]);
  // Layers 0, 2, 3: what the second window's layer gives in the model pruned so far.
  const soFar = model.withLayers([0, 2, 3, 4, 5], { layers: new Map([[0, { residualMap }]]) });
  const second = ratio(await states(soFar, 3), await states(model, 5));
  assert.ok(Math.abs((repair.details['0: scale'] as number) / first - 1) < 1e-5);
  assert.ok(Math.abs((repair.details['3: scale'] as number) / second - 1) < 1e-5);
  // The embedding takes both, down_proj of layer 3 only its own, layer 5 none.
  const tensor = async (name: string) => readTensor(tiny.place.model, name);
  const factorOf = async (fresh: Tensor, name: string) => {
    const [found, old] = [await valuesOf(fresh), await tensor(name)];
    return (
      old.reduce((sum, value, i) => sum + value * found[i]!, 0) /
      old.reduce((sum, value) => sum + value ** 2, 0)
    );
  };
  const near = (found: number, expected: number) =>
    assert.ok(Math.abs(found / expected - 1) < 1e-3, `${found} against ${expected}`);
  const { weights } = pruned.model;
  near(await factorOf(weights.embedding, 'model.embed_tokens.weight'), first * second);
  near(await factorOf(weights.finalNorm, 'model.norm.weight'), 1 / (first * second));
  assert.is(weights.lmHead, weights.embedding);
  near(await factorOf(weights.layers[0]!.o, 'model.layers.0.self_attn.o_proj.weight'), first * second);
  near(await factorOf(weights.layers[2]!.down, 'model.layers.3.mlp.down_proj.weight'), second);
  assert.is(weights.layers[3]!.down, model.weights.layers[5]!.down);
  // Folded, it computes what scaling the stream computes, but for the rounding of the weights.
  using other = tensorFrom(
    model.device,
    map.map(value => (value * second) / first),
    [hidden, hidden],
  );
  const layers = new Map([
    [0, { residualMap }],
    [3, { residualMap: other }],
  ]);
  const expected = (await logits(model.withLayers([0, 2, 3, 5], { layers }), sequences[0]!)).logits;
  assert.ok(relativeError((await logits(pruned.model, sequences[0]!)).logits, expected) < 2e-2);
});

for (const method of [linearPatch, linearPatchDiagonal]) {
  test(`${method.name}: the patch in f64`, async () => {
    await using tiny = await openTiny();
    const { model, batches } = tiny;
    const { hidden } = model.arch;
    const window = { layer: 1, count: 2 };
    const repair = await method.repair(repairContext(model, batches), [window]);
    const h = method === linearPatch ? hadamard(hidden)! : undefined;
    /** Mean |x| of channel c over the tokens of a sequence. */
    const magnitude = (rows: number[][], c: number) =>
      mean(
        rows.map(row => Math.abs(h ? row.reduce((sum, x, r) => sum + x * h[r * hidden + c]!, 0) : row[c]!)),
      );
    const host = await Promise.all(sequences.map(ids => hostStates(model, ids)));
    const factors = Array.from({ length: hidden }, (_, c) =>
      mean(host.map(({ states }) => magnitude(states[4]!, c) / magnitude(states[2]!, c))),
    );
    const expected = Float64Array.from({ length: hidden * hidden }, (_, at) => {
      const [i, j] = [Math.floor(at / hidden), at % hidden];
      if (!h) return i === j ? factors[i]! : 0;
      return factors.reduce((sum, d, c) => sum + h[i * hidden + c]! * d * h[j * hidden + c]!, 0);
    });
    using pruned = new PrunedModel(model, [window], repair.changes);
    const { residualMap } = pruned.model.weights.layers[1]!;
    assert.ok(relativeError(await downloadF32(residualMap!), expected) < 1e-5);
    assert.ok(Math.abs((repair.details.meanScale as number) - mean(factors)) < 1e-5);
  });
}

test('LinearPatch is no ordinary model, and knows what it cannot rotate', async () => {
  using place = await workplace();
  const request = options(place.calibration, { method: 'linear-patch', window: 1 });
  const message = await rejectsWith(() => prune(place.model, place.out, request), 'INVALID_ARGUMENT');
  assert.match(message, 'residual stream');
  await using tiny = await openTiny();
  assert.match(linearPatch.refusal!({ ...tiny.model.arch, hidden: 92 })!, '92');
  assert.is(linearPatch.refusal!(tiny.model.arch), undefined);
  assert.is(linearPatchDiagonal.refusal!({ ...tiny.model.arch, hidden: 92 }), undefined);
});

test('rivals write models that evaluate like the ones in memory, and leave nothing on the device', async () => {
  await using tiny = await openTiny(biased);
  tiny.model.dispose();
  const { device, place } = tiny;
  for (const [method, more] of [
    ['uidl', {}],
    ['streamline', {}],
    ['shortgpt', {}],
    ['sleb', {}],
    ['laco', {}],
    ['laco-released', {}],
    ['laco', { layers: undefined, remove: [1, 3], heal: { closedForm: true } }],
    ['prune-and-comp', { layers: undefined, remove: [1, 3] }],
    ['prune-and-comp', { layers: undefined, remove: [1, 3], heal: { closedForm: true } }],
  ] as const) {
    const { layers, ...rest } = options(place.calibration, { method, device, force: true });
    const request = { ...rest, ...('remove' in more ? { remove: more.remove } : { layers: 2 }) };
    const heal = 'heal' in more ? { heal: more.heal } : {};
    const report = await prune(place.model, place.out, { ...request, ...heal });
    assert.is(report.verification.maxLogitDifference, 0, method);
    assert.is(report.output.layers, 4, method);
    assert.is(device.memory.liveBytes, 0, `${method} leaves nothing on the device`);
  }
});

test('a cut before the first layer is repaired by no rival', async () => {
  using place = await workplace();
  for (const method of ['laco', 'prune-and-comp', 'replaceme-ls']) {
    const { layers: _, ...request } = options(place.calibration, { method });
    const work = () => prune(place.model, place.out, { ...request, remove: [0, 3] });
    assert.match(await rejectsWith(work, 'INVALID_ARGUMENT'), 'first layer');
  }
});

test.run();
