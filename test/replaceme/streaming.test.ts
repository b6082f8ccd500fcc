import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, Scope, tensorFrom } from '../../engine/index.js';
import { openSafetensors } from '../../model/index.js';
import { BatchTensors } from '../../model/transformer/batchTensors.js';
import { accumulateStatistics } from '../../replaceme/accumulate.js';
import { type PruneOptions, type PruneReport, planPrune, prune } from '../../replaceme/index.js';
import { profileWindows } from '../../replaceme/profile.js';
import { rejectsWith } from '../gpu.js';
import { options, workplace } from './workplace.js';

const shape = (layers: number, hidden: number, intermediate: number) => ({
  config: {
    num_hidden_layers: layers,
    hidden_size: hidden,
    intermediate_size: intermediate,
    head_dim: hidden / 4,
    _layer_marks: undefined,
  },
});

const weightsOf = (folder: string): Buffer[] =>
  readdirSync(folder)
    .filter(name => name.endsWith('.safetensors'))
    .sort()
    .map(name => readFileSync(join(folder, name)));

async function weightBytes(folder: string): Promise<number> {
  const checkpoint = await openSafetensors(folder);
  await checkpoint.close();
  return checkpoint.totalBytes;
}

const places = ({ plan }: PruneReport) => [plan!.placement.weights, plan!.placement.states.place];

test('8 layers in 4 shards under less than half of their bytes: the same files as with all memory, peaks as planned', async () => {
  using place = await workplace({ ...shape(8, 128, 512), maxShardBytes: 1_100_000 });
  assert.is(readdirSync(place.model).filter(name => name.endsWith('.safetensors')).length, 4);
  const memoryLimit = 0.49 * (await weightBytes(place.model));
  const small = {
    tokens: 512,
    sequenceLength: 32,
    batchTokens: 32,
    select: 'cosine',
    report: 'none',
  } as const;
  for (const method of ['plain', 'replaceme-ls']) {
    const run = async (name: string, more: PruneOptions) => {
      const out = join(place.path, `${method}-${name}`);
      const report = await prune(place.model, out, options(place.calibration, { ...small, method, ...more }));
      return { report, files: weightsOf(out) };
    };
    const whole = await run('whole', {});
    const streamed = await run('streamed', { memoryLimit });
    assert.equal(places(whole.report), ['device', 'device']);
    assert.is(places(streamed.report)[0], 'streamed');
    assert.equal(streamed.report.selection, whole.report.selection);
    assert.equal(streamed.files, whole.files, method);
    for (const { report } of [whole, streamed]) {
      const share = report.peakMemoryBytes / report.plan!.memory.total;
      assert.ok(Math.abs(share - 1) < 0.1, `${method} ${places(report)}: ${share} of the plan`);
    }
    assert.ok(streamed.report.peakMemoryBytes <= memoryLimit);
    assert.is(streamed.report.verification.maxLogitDifference, 0);
  }
});

test('refit and healing, layer by layer with hidden states on the host: the same files, whatever is healed stays there', async () => {
  using place = await workplace(shape(16, 64, 64));
  const bytes = await weightBytes(place.model);
  const run = async (name: string, more: PruneOptions) => {
    const out = join(place.path, name);
    const wanted = { method: 'refit-heal', window: 2, batchTokens: 64, report: 'none' as const, ...more };
    return {
      report: await prune(place.model, out, options(place.calibration, wanted)),
      files: weightsOf(out),
    };
  };
  const whole = await run('whole', {});
  const streamed = await run('streamed', { memoryLimit: 0.9 * bytes });
  assert.equal(places(streamed.report), ['streamed', 'host']);
  assert.ok((whole.report.fit.healedProjections as number) > 0, 'there is something to compare');
  assert.equal(streamed.report.fit, whole.report.fit);
  assert.equal(streamed.files, whole.files);
  const { peakMemoryBytes, plan } = streamed.report;
  assert.ok(
    Math.abs(peakMemoryBytes / plan!.memory.total - 1) < 0.1,
    `${peakMemoryBytes}, ${JSON.stringify(plan)}`,
  );
});

test('a choice of what is healed, layer by layer: the same', async () => {
  using place = await workplace(shape(16, 64, 64));
  const bytes = await weightBytes(place.model);
  const run = async (name: string, more: PruneOptions) => {
    const out = join(place.path, name);
    const wanted = {
      method: 'refit',
      heal: { closedForm: 'auto' },
      window: 8,
      batchTokens: 64,
      report: 'none',
    };
    const asked = options(place.calibration, {
      ...wanted,
      ridge: 0.1,
      attentionStep: 0,
      ...more,
    } as PruneOptions);
    return { report: await prune(place.model, out, asked), files: weightsOf(out) };
  };
  const whole = await run('whole', {});
  const streamed = await run('streamed', { memoryLimit: 0.9 * bytes });
  assert.is(places(streamed.report)[0], 'streamed');
  assert.equal(streamed.report.fit, whole.report.fit);
  assert.ok((whole.report.fit.heldOutKlOfBoth as number) > 0);
  assert.equal(streamed.files, whole.files);
});

test('the report of streamed models has the same numbers, and says what it leaves out', async () => {
  using place = await workplace(shape(16, 64, 64));
  const memoryLimit = 0.95 * (await weightBytes(place.model));
  const run = async (name: string, more: PruneOptions) => {
    const wanted = {
      method: 'refit-heal',
      tokens: 512,
      sequenceLength: 32,
      batchTokens: 32,
      evaluationTokens: 256,
    };
    return await prune(
      place.model,
      join(place.path, name),
      options(place.calibration, { ...wanted, select: 'cosine', ...more }),
    );
  };
  const whole = await run('whole', {});
  const streamed = await run('streamed', { memoryLimit, select: undefined } as PruneOptions);
  assert.is(places(streamed)[0], 'streamed');
  assert.equal(streamed.selection.windows, whole.selection.windows);
  const measuresOf = ({ evaluation }: PruneReport) => {
    const { models, samples: _, ...rest } = evaluation!;
    return { ...rest, models: models.map(({ tokensPerSecond: _, ...measures }) => measures) };
  };
  assert.equal(measuresOf(streamed), measuresOf(whole));
  assert.is(whole.evaluation!.models.length, 3);
  assert.ok(whole.evaluation!.samples.length > 0);
  assert.equal(streamed.evaluation!.samples, []);
  assert.match(streamed.warnings.join('\n'), /selected by cosine, since measured runs whole models/);
  assert.match(streamed.warnings.join('\n'), /no samples/);
  const share = streamed.peakMemoryBytes / streamed.plan!.memory.total;
  assert.ok(Math.abs(share - 1) < 0.1, `${share} of the plan`);
});

test('what needs the whole model is refused with what to do; so is what does not fit at all', async () => {
  using place = await workplace(shape(16, 64, 64));
  const plan = (more: PruneOptions) =>
    planPrune(place.model, options(place.calibration, { method: 'refit', batchTokens: 64, ...more }));
  const refused = (more: PruneOptions) => rejectsWith(() => plan(more), 'OUT_OF_MEMORY');
  const memoryLimit = 0.9 * (await weightBytes(place.model));
  const whole = await refused({ memoryLimit, select: 'measured', generate: 100 });
  assert.match(whole, /the selection measured runs whole models and the model cannot write text then/);
  assert.match(await refused({ memoryLimit: 200_000, window: 2, report: 'none' }), /at the least/);
  let fix = '';
  await plan({ memoryLimit, select: 'measured' }).catch(error => {
    fix = error.fix;
  });
  assert.match(fix, /^Use `select: cosine`; or raise/);
  assert.match((await plan({ memoryLimit })).notes.join(), /selected by cosine/);
  assert.equal((await plan({})).notes, []);
});

test('a map of windows on a model that does not fit: layer by layer within the limit, or refused with what to do', async () => {
  using place = await workplace(shape(16, 64, 64));
  const bytes = await weightBytes(place.model);
  const profile = async (more: Parameters<typeof profileWindows>[1] = {}) => {
    await using device = await Device.open(more);
    const notices: string[] = [];
    const small = { calibration: [place.calibration], tokens: 256, sequenceLength: 32, batchTokens: 32 };
    const map = await profileWindows(place.model, {
      ...{ ...small, longest: 4, ...more, device },
      onNotice: text => notices.push(text),
    });
    return { ...map, notices, peak: device.memory.peakBytes };
  };
  const whole = await profile();
  assert.equal(whole.notices, []);
  const memoryLimit = 0.99 * bytes;
  const streamed = await profile({ memoryLimit });
  assert.match(
    streamed.notices.join(),
    /^the layers are streamed: the model does not fit.*swaps .* left out/,
  );
  assert.is(whole.swaps!.length, 15);
  assert.is(streamed.swaps, undefined);
  assert.ok(streamed.peak <= memoryLimit, `${streamed.peak} of ${memoryLimit}`);
  const most = Math.max(...whole.windows.map(({ residual }) => residual));
  for (const [w, { cosine, residual }] of streamed.windows.entries()) {
    assert.is(cosine, whole.windows[w]!.cosine);
    assert.ok(Math.abs(residual - whole.windows[w]!.residual) < 1e-5 * most);
  }
  let fix = '';
  await profile({ memoryLimit: 1e5 }).catch(error => {
    assert.is(error.code, 'OUT_OF_MEMORY');
    fix = error.fix;
  });
  assert.match(fix, /raise `memoryLimit` to /i);
});

test('sums of a shard, layer by layer: the same file', async () => {
  using place = await workplace(shape(8, 128, 512));
  const memoryLimit = 0.49 * (await weightBytes(place.model));
  const small = { tokens: 512, sequenceLength: 32, batchTokens: 32, window: 2 };
  const gather = async (name: string, more: PruneOptions) => {
    const file = join(place.path, name);
    const given = options(place.calibration, { ...small, ...more });
    assert.ok(
      (await accumulateStatistics(place.model, file, { ...given, shard: { index: 2, of: 3 } })).complete,
    );
    return readFileSync(file);
  };
  assert.equal(await gather('streamed', { memoryLimit }), await gather('whole', {}));
  assert.match(
    await rejectsWith(() => gather('none', { memoryLimit: memoryLimit / 4 }), 'OUT_OF_MEMORY'),
    'at the least',
  );
});

test('hidden states on the host: f32 keeps every bit, bf16 eight bits of mantissa', async () => {
  await using device = await Device.open();
  const values = Float32Array.from({ length: 600 }, (_, i) => Math.sin(i) * 10 ** ((i % 9) - 4));
  for (const dtype of ['f32', 'bf16'] as const) {
    using kept = new BatchTensors(device, { place: 'host', dtype });
    const live = device.memory.liveBytes;
    await kept.put(0, tensorFrom(device, values, [20, 30]));
    assert.is(device.memory.liveBytes, live, 'nothing is left on the device');
    using scope = new Scope(device);
    const found = await downloadF32(await kept.get(0, scope));
    if (dtype === 'f32') assert.equal(found, values);
    else
      for (const [i, value] of values.entries())
        assert.ok(Math.abs(found[i]! - value) <= Math.abs(value) / 256);
  }
});

test.run();
