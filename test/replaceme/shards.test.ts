import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { type AccumulateOptions, accumulateStatistics } from '../../replaceme/accumulate.js';
import { type PruneOptions, prune } from '../../replaceme/index.js';
import { mergeStatistics } from '../../replaceme/statistics/mergeStatistics.js';
import { shardOf } from '../../replaceme/statistics/shard.js';
import { StatisticsFile } from '../../replaceme/statistics/statisticsFile.js';
import { rejectsWith, relativeError } from '../gpu.js';
import { readGolden } from '../support.js';
import { options, workplace } from './workplace.js';

const device = await Device.open();
test.after(() => device.close());

/** Forward passes that a run needs although nothing is summed: loading and the check of what was written. */
const noPass = ['load', 'write'];

/** A place to make sums in parts: 16 batches. */
async function sharding() {
  const place = await workplace();
  const path = (name: string) => join(place.path, `${name}.safetensors`);
  const asked = (more: PruneOptions = {}): PruneOptions => ({
    ...options(place.calibration, { batchTokens: 64, report: 'none', device }),
    ...more,
  });
  const gather = (name: string, index: number, of: number, more: PruneOptions = {}) =>
    accumulateStatistics(place.model, path(name), {
      ...asked(more),
      shard: { index, of },
    } as AccumulateOptions);
  const run = async (more: PruneOptions = {}) => {
    const phases = new Set<string>();
    const report = await prune(place.model, place.out, {
      ...asked(more),
      force: true,
      onProgress: ({ phase, done, unit }) => done > 0 && unit !== 'layers' && phases.add(phase),
    });
    return { report, phases: [...phases], weights: readFileSync(join(place.out, 'model.safetensors')) };
  };
  /** Rounds of K shards each, merged, until all sums are there. */
  const rounds = async (of: number, more: PruneOptions) => {
    let merged: string | undefined;
    for (let round = 1; ; round++) {
      const name = (what: string | number) => `${of} shards, round ${round}, ${what}`;
      const found = [];
      for (let k = 1; k <= of; k++) {
        found.push(await gather(name(k), k, of, { ...more, ...(merged && { statistics: merged }) }));
      }
      const before = merged ? [merged] : [];
      merged = path(name('merged'));
      await mergeStatistics(merged, [...before, ...found.map(shard => shard.path)]);
      const tokens = found.reduce((sum, shard) => sum + shard.tokens, 0);
      assert.is(tokens, found[0]!.allTokens);
      if (found[0]!.complete) return { merged, round };
    }
  };
  return { ...place, path, gather, run, rounds };
}

/** All matrices of a statistics file in f64, high and low parts together. */
async function matrices(path: string): Promise<Map<string, Float64Array>> {
  const stored = await readGolden(path);
  const found = new Map<string, Float64Array>();
  for (const [name, { values }] of stored) {
    if (name.endsWith(' lo')) continue;
    const low = name.endsWith(' hi') ? stored.get(`${name.slice(0, -2)}lo`)!.values : undefined;
    found.set(
      name,
      values.map((value, at) => value + (low?.[at] ?? 0)),
    );
  }
  return found;
}

const cases = [
  { method: 'replaceme-ls', select: 'cosine', rounds: 2 },
  { method: 'refit', select: 'angular', attentionStep: 0, rounds: 2 },
  { method: 'refit', select: 'cosine', attentionStep: 0.5, rounds: 3 },
  { method: 'refit', layers: undefined, remove: [3, 4], rounds: 2 },
];

for (const { rounds, ...more } of cases) {
  const name = `${more.method}, ${more.select ?? 'layers given'}, o_proj ${more.attentionStep ?? 'as usual'}`;
  test(`${name}: sums of 1, 2 and 4 shards are those of a single run, and so is the model`, async () => {
    using place = await sharding();
    const single = place.path('single');
    const alone = await place.run({ ...more, statistics: single });
    const expected = await matrices(single);
    for (const of of [1, 2, 4]) {
      const { merged, round } = await place.rounds(of, more);
      assert.is(round, rounds);
      const sums = await matrices(merged);
      assert.equal([...sums.keys()].sort(), [...expected.keys()].sort());
      for (const [name, values] of sums) {
        // Those of down_proj are summed in f32, all others in 48 bits.
        const error = name.includes('down_proj') ? 1e-7 : 1e-12;
        const worst = relativeError(values, expected.get(name)!);
        assert.ok(worst <= error, `${of} shards, ${name}: ${worst}`);
      }
      const [ours, theirs] = [await StatisticsFile.read(merged), await StatisticsFile.read(single)];
      for (const sum of theirs.names) {
        for (const [key, value] of Object.entries(theirs.numbers(sum))) {
          assert.ok(Math.abs(ours.numbers(sum)[key]! - value) <= 1e-12 * Math.abs(value), `${sum} ${key}`);
        }
      }
      const finished = await place.run({ ...more, statistics: merged });
      assert.equal(finished.phases, noPass);
      assert.equal(finished.report.selection.windows, alone.report.selection.windows);
      assert.is(finished.report.fit.tokens, alone.report.fit.tokens);
      const weights = await readGolden(join(place.out, 'model.safetensors'));
      const kept = place.path('alone');
      writeFileSync(kept, alone.weights);
      for (const [tensor, { values }] of await readGolden(kept)) {
        // Stored in bf16: a value on the edge may fall to the other side.
        const difference = relativeError(weights.get(tensor)!.values, values);
        assert.ok(difference <= 2e-4, `${tensor}: ${difference}`);
      }
    }
    assert.is(device.memory.liveBytes, 0, 'nothing stays on the device');
  });
}

test('shards share whole batches, and none goes missing', () => {
  const batches = Array.from({ length: 10 }, (_, i) => ({
    sequences: [[i]],
    half: (i % 2) as 0 | 1,
    weight: 1 + i,
  }));
  const shards = [1, 2, 3].map(index => shardOf(batches, { index, of: 3 }));
  assert.equal(
    shards.map(({ length }) => length),
    [4, 3, 3],
  );
  assert.equal(new Set(shards.flat()), new Set(batches));
});

test('a shard alone does not pass for all tokens, and a merged file does not need its shards', async () => {
  using place = await sharding();
  const asked = { window: 2 };
  const half = await place.gather('half', 1, 2, asked);
  assert.ok(half.complete);
  const message = await rejectsWith(() => place.run({ ...asked, statistics: half.path }), 'INVALID_ARGUMENT');
  assert.match(message, /in the shard: "1\/2" there, "1\/1" now/);
});

test('missing, doubled, mixed and foreign shards are named', async () => {
  using place = await sharding();
  const asked = { window: 2 };
  const path = (name: string) => place.path(name);
  for (const k of [1, 2]) await place.gather(`${k} of 2`, k, 2, asked);
  for (const k of [1, 3]) await place.gather(`${k} of 4`, k, 4, asked);
  const out = path('merged');
  const refused = async (words: RegExp, ...names: string[]) => {
    const work = () => mergeStatistics(out, names.map(path));
    assert.match(await rejectsWith(work, 'INVALID_ARGUMENT'), words);
    assert.not.ok(existsSync(out));
  };
  await refused(/a shard is missing: 2\/2/, '1 of 2');
  await refused(/shards are missing: 2\/4, 4\/4/, '1 of 4', '3 of 4');
  copyFileSync(path('2 of 2'), path('copy'));
  await refused(/shard 2\/2 appears twice: .*2 of 2.* and .*copy/, '1 of 2', '2 of 2', 'copy');
  await refused(/1 of 4.* is shard 1\/4, .*2 of 2.* is shard 2\/2/, '2 of 2', '1 of 4');
  await place.gather('other', 2, 2, { ...asked, tokens: 512 });
  await refused(/other.* differs from .*1 of 2.* in the number of tokens/, '1 of 2', 'other');
  await place.gather('elsewhere', 2, 2, { window: 3 });
  await refused(/elsewhere.* lacks the sums "ls 2\.\.4 w = 1" of .*1 of 2/, '1 of 2', 'elsewhere');
  await place.gather('all', 1, 1, asked);
  await refused(/"ls 2\.\.4 w = 1" is in .*all.* and in .*1 of 2/, 'all', '1 of 2', '2 of 2');
  await refused(/no statistics files/);
  await rejectsWith(() => mergeStatistics(out, [path('nowhere')]), 'DATA_INVALID');
  const bytes = readFileSync(path('2 of 2'));
  bytes[bytes.length - 5]! ^= 1;
  writeFileSync(path('2 of 2'), bytes);
  await rejectsWith(() => mergeStatistics(out, [path('1 of 2'), path('2 of 2')]), 'DATA_INVALID');
  assert.not.ok(existsSync(out));
});

test('what cannot be summed is refused before a device is opened, with what can', async () => {
  using place = await sharding();
  const refused = (more: PruneOptions, of = 2) =>
    rejectsWith(
      () => place.gather('none', 1, of, { device: undefined, adapter: 'none', ...more } as PruneOptions),
      'INVALID_ARGUMENT',
    );
  assert.match(await refused({ method: 'refit' }), /measured runs changed models/);
  assert.match(await refused({ select: 'perplexity' }), /perplexity runs changed models/);
  assert.match(await refused({ select: 'laco' }), /laco runs changed models/);
  assert.match(
    await refused({ method: 'replaceme-cosine' }),
    /is no sum, so they must all be on one machine/,
  );
  for (const method of ['transplant', 'transplant-heal']) {
    assert.match(
      await refused({ method, select: 'cosine' }),
      /which neurons move is decided by running the same tokens/,
    );
  }
  assert.match(await refused({}, 0), /there is no shard 1\/0/);
  const many = () => place.gather('none', 1, 1000);
  assert.match(await rejectsWith(many, 'INVALID_ARGUMENT'), /cannot be divided into 1000 shards/);
});

test('with several windows the first is summed, and prune does the rest', async () => {
  using place = await sharding();
  const two = { layers: undefined, remove: [1, 4] };
  const alone = await place.run(two);
  const { merged } = await place.rounds(2, two);
  const finished = await place.run({ ...two, statistics: merged });
  assert.is(Buffer.compare(finished.weights, alone.weights), 0);
  assert.equal((await StatisticsFile.read(merged)).names, ['ls 0..1 w = 1']);
});

test('block influence is the same from shards', async () => {
  using place = await sharding();
  const asked = { select: 'block-influence' };
  const alone = await place.run(asked);
  const { merged } = await place.rounds(3, asked);
  const finished = await place.run({ ...asked, statistics: merged });
  assert.equal(finished.report.selection, alone.report.selection);
});

test.run();
