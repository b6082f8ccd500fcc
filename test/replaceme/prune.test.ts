import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { exactSize, sizeClass } from '../../engine/memory.js';
import { evaluate, logits, Model, openSafetensors } from '../../model/index.js';
import {
  checkPruneRequest,
  describeWindows,
  type PruneOptions,
  type PrunePlan,
  planPrune,
  prune,
} from '../../replaceme/index.js';
import { layersToRemove } from '../../replaceme/run/window.js';
import { maxAbsError, rejectsWith } from '../gpu.js';
import { tinyConfig } from '../tinyModel.js';
import { options as reported, workplace } from './workplace.js';

// One device for all: each new one compiles the kernels again. Most tests measure nothing for a report.
const device = await Device.open();
test.after(() => device.close());
const options = (calibration: string, more: PruneOptions = {}): PruneOptions =>
  reported(calibration, { report: 'none', device, ...more });

test('prune writes a model with fewer layers that evaluates like the one in memory', async () => {
  using place = await workplace();
  writeFileSync(join(place.model, 'README.md'), 'the base model');
  writeFileSync(join(place.model, 'notes.txt'), 'of no model');
  writeFileSync(join(place.model, 'generation_config.json'), '{}');
  writeFileSync(join(place.model, 'pytorch_model.bin'), 'other weights');
  const events: string[] = [];
  const report = await prune(place.model, place.out, {
    ...reported(place.calibration, { device }),
    onProgress: ({ phase, done, total }) => {
      assert.ok(done <= total);
      events.push(phase);
    },
  });
  assert.is(report.selection.distances!.length, 4);
  const best = report.selection.distances!.indexOf(Math.min(...report.selection.distances!));
  assert.equal(report.selection.windows, [{ layer: best, count: 2 }]);
  assert.is(report.summary, describeWindows([{ layer: best, count: 2 }], 6));
  assert.is(report.verification.maxLogitDifference, 0);
  assert.is(report.calibration.tokens, 1024);
  assert.is(report.warnings.length, 1);
  assert.match(report.warnings[0]!, /^calibrated and measured on one file alone/);
  assert.ok((report.fit.relativeResidual as number) < (report.fit.plainRelativeResidual as number));
  for (const phase of ['load', 'distances', 'statistics', 'write']) assert.ok(events.includes(phase), phase);
  assert.is(device.memory.liveBytes, 0, 'nothing stays on the device');

  const config = JSON.parse(readFileSync(join(place.out, 'config.json'), 'utf8'));
  assert.is(config.num_hidden_layers, 4);
  assert.equal(
    config._layer_marks,
    tinyConfig._layer_marks.filter((_, i) => i <= best || i > best + 2),
  );
  assert.not(existsSync(join(place.out, 'notes.txt')));
  assert.is(readFileSync(join(place.out, 'generation_config.json'), 'utf8'), '{}');
  assert.is(readFileSync(join(place.out, 'README.base.md'), 'utf8'), 'the base model');
  assert.not(existsSync(join(place.out, 'pytorch_model.bin')));
  assert.not.match(readFileSync(join(place.out, 'README.md'), 'utf8'), 'base_model');
  assert.is(JSON.parse(readFileSync(join(place.out, 'report.json'), 'utf8')).summary, report.summary);

  const [before, after] = [await openSafetensors(place.model), await openSafetensors(place.out)];
  const last = 'self_attn.q_proj.weight';
  const source = report.output.keptLayers[3];
  assert.equal(
    await after.read(`model.layers.3.${last}`),
    await before.read(`model.layers.${source}.${last}`),
  );
  assert.equal(await after.read('model.embed_tokens.weight'), await before.read('model.embed_tokens.weight'));
  await before.close();
  await after.close();
  assert.equal(place.left(), ['calibration.txt', 'model', 'pruned']);
});

test('the same run twice gives the same bytes', async () => {
  using place = await workplace();
  const weights = async (out: string) => {
    // On a device of its own, as a user's run.
    await prune(place.model, out, reported(place.calibration, { window: 2, report: 'none' }));
    return readFileSync(join(out, 'model.safetensors'));
  };
  const first = await weights(join(place.path, 'a'));
  assert.is(Buffer.compare(first, await weights(join(place.path, 'b'))), 0);
});

test('plain removal changes no weight and keeps the logits of the remaining layers', async () => {
  using place = await workplace();
  await prune(place.model, place.out, { ratio: 1 / 3, window: 1, method: 'plain', report: 'none', device });
  using dense = await Model.load(device, place.model);
  using pruned = await Model.load(device, place.out);
  const ids = [1, 2, 3, 4, 5];
  const expected = await logits(dense.withLayers([0, 1, 4, 5]), ids);
  assert.is(maxAbsError((await logits(pruned, ids)).logits, expected.logits), 0);
});

test('an mlp bias is folded as well', async () => {
  using place = await workplace({ config: { mlp_bias: true } });
  const report = await prune(place.model, place.out, options(place.calibration, { window: 2 }));
  assert.is(report.verification.maxLogitDifference, 0);
  const [before, after] = [await openSafetensors(place.model), await openSafetensors(place.out)];
  const name = 'model.layers.2.mlp.down_proj.bias';
  assert.not.equal(await after.read(name), await before.read(name));
  await before.close();
  await after.close();
});

test('fewer tokens than dimensions: a warning with ridge, a typed error without', async () => {
  using place = await workplace();
  const few = options(place.calibration, { tokens: 20, window: 2 });
  await rejectsWith(() => prune(place.model, place.out, few), 'NOT_POSITIVE_DEFINITE');
  const report = await prune(place.model, place.out, { ...few, alpha: 1 });
  assert.is(report.warnings.length, 2);
  assert.match(report.warnings[0]!, '20 calibration tokens for 32 dimensions');
  assert.match(report.warnings[1]!, /^20 calibration tokens is little: each regression has 32 unknowns/);
});

test('wrong requests are refused before any work, and nothing is left behind', async () => {
  using place = await workplace();
  const { model, out, calibration } = place;
  const wrong = async (more: PruneOptions, code: Parameters<typeof rejectsWith>[1], words: string) => {
    assert.match(await rejectsWith(() => prune(model, out, options(calibration, more)), code), words);
    assert.equal(place.left(), ['calibration.txt', 'empty.txt', 'model']);
  };
  writeFileSync(join(place.path, 'empty.txt'), '');
  await wrong({ window: 4 }, 'INVALID_ARGUMENT', 'window 4');
  await wrong({ window: -1 }, 'INVALID_ARGUMENT', '`window` is -1');
  await wrong({ layers: 6 }, 'INVALID_ARGUMENT', '6 of 6');
  await wrong({ ratio: 0.5 }, 'INVALID_ARGUMENT', 'twice');
  await wrong({ method: 'magic' }, 'INVALID_ARGUMENT', 'magic');
  await wrong({ alpha: -1 }, 'INVALID_ARGUMENT', 'alpha');
  await wrong({ window: 1, select: 'cosine' }, 'INVALID_ARGUMENT', 'nothing to select');
  await wrong({ window: 1, windows: 2 }, 'INVALID_ARGUMENT', 'nothing to select');
  await wrong({ select: 'block-influence', apart: true }, 'INVALID_ARGUMENT', 'block-influence');
  await wrong({ generate: 100, mask: 5 }, 'INVALID_ARGUMENT', '`mask` is 5');
  await wrong({ calibration: [join(place.path, 'empty.txt')] }, 'DATA_INVALID', 'empty.txt');
  await wrong({ calibration: [join(place.path, 'no-such.txt')] }, 'DATA_INVALID', 'no-such.txt');
  await wrong({ memoryLimit: 60_000, device: undefined }, 'OUT_OF_MEMORY', 'needs');
  assert.match(await rejectsWith(() => prune(model, model, options(calibration)), 'OUTPUT_EXISTS'), 'model');
});

test('settings that the method does not read are refused, unless they have the default value', async () => {
  using place = await workplace();
  const check = (more: PruneOptions) =>
    checkPruneRequest(place.model, undefined, options(place.calibration, more));
  const refused: [PruneOptions, RegExp][] = [
    [{ ridge: 0.1 }, /replaceme-ls has no `ridge`/],
    [{ sinkWeight: 2 }, /replaceme-ls has no `sinkWeight`/],
    [{ method: 'refit', alpha: 1 }, /refit has no `alpha`/],
    [{ method: 'plain', attentionStep: 0 }, /plain has no `attentionStep`/],
    [{ cosine: { epochs: 3 } }, /replaceme-ls has no `cosine\.epochs`/],
    [{ method: 'refit-heal', heal: { closedForm: false } }, /refit-heal always heals/],
  ];
  for (const [more, words] of refused) {
    assert.match(await rejectsWith(() => check(more), 'INVALID_ARGUMENT'), words);
  }
  const written = { layers: 2, generate: 100, weights: [1] };
  const work = () => checkPruneRequest(place.model, undefined, written);
  assert.match(await rejectsWith(work, 'INVALID_ARGUMENT'), /weights are given, but no calibration files/);
  for (const more of [
    { alpha: 1 },
    { method: 'refit', ridge: 0.1, attentionStep: 0, sinkWeight: 2, alpha: 0 },
    { method: 'refit-heal', ridge: 0.1 },
    { method: 'replaceme-cosine', cosine: { epochs: 3 } },
    { cosine: { equation: 8 } } as const,
    { method: 'plain', heal: { closedForm: true } },
  ]) {
    await check(more);
  }
});

test('force replaces an earlier output, and no folder that holds something else', async () => {
  using place = await workplace();
  mkdirSync(place.out);
  writeFileSync(join(place.out, 'mine.txt'), 'precious');
  const request = options(place.calibration, { window: 0, method: 'plain' });
  for (const force of [false, true]) {
    await rejectsWith(() => prune(place.model, place.out, { ...request, force }), 'OUTPUT_EXISTS');
    assert.is(readFileSync(join(place.out, 'mine.txt'), 'utf8'), 'precious');
  }
  rmSync(join(place.out, 'mine.txt'));
  await prune(place.model, place.out, request);
  await rejectsWith(() => prune(place.model, place.out, request), 'OUTPUT_EXISTS');
  const layers = () => JSON.parse(readFileSync(join(place.out, 'config.json'), 'utf8')).num_hidden_layers;
  assert.is(layers(), 4);
  await prune(place.model, place.out, { ...request, layers: 1, force: true });
  assert.is(layers(), 5);
});

test('NaN in the weights is NOT_FINITE and names the tensor', async () => {
  const name = 'model.layers.3.mlp.up_proj.weight';
  using place = await workplace({
    values: (tensor, values) => tensor === name && values.fill(Number.NaN, 7, 8),
  });
  const message = await rejectsWith(
    () => prune(place.model, place.out, options(place.calibration)),
    'NOT_FINITE',
  );
  assert.match(message, name);
  assert.equal(place.left(), ['calibration.txt', 'model']);
});

test('a cancelled run leaves nothing', async () => {
  using place = await workplace();
  const controller = new AbortController();
  const request = options(place.calibration, {
    signal: controller.signal,
    onProgress: ({ phase }) => phase === 'distances' && controller.abort(new Error('stop')),
  });
  let thrown: unknown;
  await prune(place.model, place.out, request).catch(error => {
    thrown = error;
  });
  assert.is((thrown as Error).message, 'stop');
  assert.equal(place.left(), ['calibration.txt', 'model']);
});

test('a device lost on the way ends with DEVICE_LOST and nothing written', async () => {
  using place = await workplace();
  await using lost = await Device.open();
  const request = options(place.calibration, {
    device: lost,
    onProgress: ({ phase }) => phase === 'statistics' && lost.gpu.destroy(),
  });
  await rejectsWith(() => prune(place.model, place.out, request), 'DEVICE_LOST');
  assert.equal(place.left(), ['calibration.txt', 'model']);
});

test('the plan adds up and needs no calibration text', async () => {
  using place = await workplace();
  const plan = await planPrune(place.model, { layers: 2, window: 1 });
  const { weights, activations, statistics, layerInputs: streams, hiddenStates, total } = plan.memory;
  // Sums are there with activations, and then without them with what the solve needs.
  assert.ok(total >= weights + streams + Math.max(statistics, activations));
  assert.ok(total <= weights + streams + statistics + activations);
  assert.is(hiddenStates, 0);
  const checkpoint = await openSafetensors(place.model);
  const buffers = checkpoint.names.map(name => exactSize(checkpoint.info(name).byteLength));
  assert.is(
    weights,
    buffers.reduce((sum, bytes) => sum + bytes, 0) + sizeClass(4 * 128 * 8),
    'with the rotary embedding',
  );
  await checkpoint.close();
  assert.equal(
    plan.phases.map(({ name }) => name),
    ['load', 'fit', 'evaluate', 'write', 'verify'],
  );
  assert.ok(plan.phases.every(({ seconds }) => seconds > 0) && plan.rates.layerGflops > 0);
});

test('tokens one by one are timed only where a report may have samples', async () => {
  using place = await workplace();
  const timed = async (report?: 'full' | 'light' | 'none') => {
    const { rates } = await planPrune(place.model, {
      layers: 2,
      window: 1,
      device,
      ...(report && { report }),
    });
    return rates.singleGflops !== undefined && rates.singleGflops > 0;
  };
  assert.equal(
    [await timed(), await timed('full'), await timed('light'), await timed('none')],
    [true, true, false, false],
  );
});

test('the plan knows what each method gathers', async () => {
  using place = await workplace();
  const { hidden_size: d, intermediate_size: ff, num_attention_heads: heads, head_dim: size } = tinyConfig;
  const tokens = 500;
  const plan = (more: PruneOptions) =>
    planPrune(place.model, { layers: 2, window: 1, tokens, device, ...more });
  const state = 4 * tokens * d;
  const refit = await plan({});
  // Two halves of G and C, a factor, and three of C's shape; A, Y and H of all tokens.
  const kept = 4 * tokens * (heads * size + d + ff);
  assert.is(refit.memory.statistics, 3 * sizeClass(4 * ff * ff) + 5 * sizeClass(4 * ff * d) + kept);
  assert.is(refit.memory.layerInputs, 2 * state);
  const healed = await plan({ heal: { closedForm: true } });
  assert.is(healed.memory.layerInputs, 3 * state);
  const flops = ({ phases }: PrunePlan, name: string) => phases.find(phase => phase.name === name)!.flops;
  const healing = await plan({ method: 'refit-heal' });
  for (const name of ['fit', 'heal']) assert.is(flops(healing, name), flops(healed, name));
  assert.is(flops(healed, 'fit'), flops(refit, 'fit'));
  const ls = await plan({ method: 'replaceme-ls' });
  assert.is(ls.memory.statistics, 4 * 10 * d * d + 14 * 4 * 32 * d);
  const cosine = await plan({ method: 'replaceme-cosine' });
  const more = await plan({ method: 'replaceme-cosine', cosine: { epochs: 20 } });
  assert.is(flops(more, 'fit') - flops(cosine, 'fit'), 10 * 6 * tokens * d * d);
  const plain = await plan({ method: 'plain' });
  assert.equal([plain.memory.statistics, plain.memory.layerInputs], [0, 0]);
  assert.not(plain.phases.some(({ name }) => name === 'fit'));
  assert.is((await plan({ mask: 0.5 })).tokens, 2 * tokens);
  assert.equal(await plan({ generate: 30 }).then(found => [found.tokens, found.generated]), [30, 30]);
  const both = await plan({ generate: 30, calibration: [place.calibration] });
  assert.equal([both.tokens, both.generated], [tokens + 30, 30]);
});

test('layersToRemove rounds a ratio', () => {
  assert.is(layersToRemove({ ratio: 0.25 }, 30), 8);
  assert.is(layersToRemove({ layers: 7 }, 30), 7);
});

test('evaluate: perplexity equals the one computed from logits in f64, KL against a pruned model likewise', async () => {
  using place = await workplace();
  using model = await Model.load(device, place.model);
  const other = model.withLayers([0, 1, 4, 5]);
  const sequences = [[5, 9, 200, 31, 77, 3], [8, 8], [100]];
  const distribution = async (of: Model, ids: number[]) => {
    const { logits: values } = await logits(of, ids);
    return ids.map((_, t) => {
      const row = Array.from(values.subarray(260 * t, 260 * t + 260));
      const logSum = Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));
      return row.map(logit => logit - logSum);
    });
  };
  let [nll, kl, same, count] = [0, 0, 0, 0];
  for (const ids of sequences) {
    const [p, q] = [await distribution(model, ids), await distribution(other, ids)];
    for (let t = 0; t + 1 < ids.length; t++, count++) {
      nll -= q[t]![ids[t + 1]!]!;
      kl += p[t]!.reduce((sum, logp, v) => sum + Math.exp(logp) * (logp - q[t]![v]!), 0);
      same += Number(p[t]!.indexOf(Math.max(...p[t]!)) === q[t]!.indexOf(Math.max(...q[t]!)));
    }
  }
  const found = await evaluate(other, sequences, { against: model });
  assert.is(found.predictions, count);
  assert.ok(Math.abs(found.nll - nll / count) < 1e-5);
  assert.ok(Math.abs(found.kl! - kl / count) < 1e-5);
  assert.is(found.top1, same / count);
  const alone = await evaluate(other, sequences);
  assert.ok(Math.abs(alone.nll - found.nll) < 1e-5);
});

test.run();
