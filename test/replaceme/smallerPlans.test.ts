// Runs whose device has less room than it said: they go on with smaller plans, to the same bytes. 10 s on two idle cores.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, RmError } from '../../engine/index.js';
import { type PruneOptions, prune } from '../../replaceme/index.js';
import { options, workplace } from './workplace.js';

const shape = {
  config: {
    ...{ num_hidden_layers: 6, hidden_size: 128, intermediate_size: 512, head_dim: 32 },
    _layer_marks: undefined,
  },
};
const small: PruneOptions = {
  ...{ tokens: 256, sequenceLength: 32, batchTokens: 32, report: 'none' },
  ...{ method: 'replaceme-ls', select: 'cosine' },
};

const weightsOf = (folder: string): Buffer[] =>
  readdirSync(folder)
    .filter(name => name.endsWith('.safetensors'))
    .sort()
    .map(name => readFileSync(join(folder, name)));

test('a driver that refuses a buffer: the next smaller plan, one line, the same bytes', async () => {
  using place = await workplace(shape);
  const run = async (name: string, capacity: number | undefined, more: PruneOptions = {}) => {
    await using device = await Device.open({ ...(capacity !== undefined && { capacity }) });
    const notices: string[] = [];
    const out = join(place.path, name);
    const wanted = { ...small, ...more, device, onNotice: (text: string) => notices.push(text) };
    const report = await prune(place.model, out, options(place.calibration, wanted));
    return { report, notices, files: weightsOf(out), out, live: device.memory.liveBytes };
  };
  const whole = await run('whole', undefined);
  assert.is(whole.report.plan!.placement.weights, 'device');
  const capacity = Math.round(0.6 * whole.report.peakMemoryBytes);
  const smaller = await run('smaller', capacity, { checkpointEvery: 0 });
  console.log(smaller.notices.join('\n'));
  assert.match(smaller.notices[0]!, /the driver has no room for .*: going on with a plan of at most/);
  assert.is.not(smaller.report.plan!.placement.weights, 'device');
  assert.is(smaller.live, 0);
  assert.equal(smaller.report.selection, whole.report.selection);
  assert.equal(smaller.files, whole.files);
  const failure = await run('nothing', Math.round(0.05 * capacity)).catch(error => error);
  assert.instance(failure, RmError);
  assert.is(failure.code, 'OUT_OF_MEMORY');
  assert.not(readdirSync(place.path).includes('nothing'), 'nothing is half written');
});

test('no placement fits: smaller batches, from the beginning, to what a run in such batches writes', async () => {
  using place = await workplace(shape);
  const run = async (name: string, capacity: number | undefined, batchTokens: number) => {
    await using device = await Device.open({ ...(capacity !== undefined && { capacity }) });
    const notices: string[] = [];
    const out = join(place.path, name);
    const wanted = { ...small, batchTokens, device, onNotice: (text: string) => notices.push(text) };
    const report = await prune(place.model, out, options(place.calibration, wanted));
    return { report, notices, files: weightsOf(out) };
  };
  const least = async (batchTokens: number) => {
    const { message } = await prune(
      place.model,
      join(place.path, 'planned'),
      options(place.calibration, { ...small, batchTokens, memoryLimit: 1000 }),
    ).catch(error => error);
    return Number(/needs ([\d.]+) MiB of device memory at the least/.exec(message)![1]) * 2 ** 20;
  };
  const [of64, of256] = [await least(64), await least(256)];
  assert.ok(of64 < 0.8 * of256, `${of64} ${of256}`);
  const smaller = await run('smaller', Math.round(0.9 * of256), 256);
  assert.ok(smaller.report.recipe.batchTokens! < 256);
  assert.ok(
    smaller.notices.some(text => /from the beginning in batches of \d+ tokens/.test(text)),
    smaller.notices.join('\n'),
  );
  const { batchTokens } = smaller.report.recipe;
  assert.equal((await run('asked', undefined, batchTokens!)).files, smaller.files);
});

test('resume with less memory: the selection stays, the rest begins anew, the same bytes', async () => {
  using place = await workplace(shape);
  const out = (name: string) => join(place.path, name);
  const run = (name: string, more: PruneOptions) =>
    prune(place.model, out(name), options(place.calibration, { ...small, checkpointEvery: 0, ...more }));
  const whole = await run('whole', {});
  const stop = new AbortController();
  const broken = await run('resumed', {
    signal: stop.signal,
    onProgress: ({ phase, done }) => {
      if (/^layer/.test(phase) && done > 64) stop.abort(new Error('stopped'));
    },
  }).catch(error => error);
  assert.is(broken.message, 'stopped');
  const notices: string[] = [];
  const phases = new Set<string>();
  const resumed = await run('resumed', {
    ...{ resume: true, memoryLimit: Math.round(0.6 * whole.peakMemoryBytes) },
    onNotice: text => notices.push(text),
    onProgress: ({ phase }) => phases.add(phase),
  });
  assert.is.not(resumed.plan!.placement.weights, 'device');
  assert.ok(
    notices.some(text => /in other places than before/.test(text)),
    notices.join('\n'),
  );
  assert.not(phases.has('distances'), 'the windows are not chosen again');
  assert.equal(weightsOf(out('resumed')), weightsOf(out('whole')));
});

test.run();
