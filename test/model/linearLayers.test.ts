/** Layers without attention in batches, caches and checks; about five seconds, on the tiny models of test/data/families. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, tensorFrom } from '../../engine/index.js';
import { pruneConfig } from '../../model/families/index.js';
import { generateTogether } from '../../model/generation/generateTogether.js';
import { Batch, DecodingSession, forward, KvCache, lossAndGradients, Model } from '../../model/index.js';
import { methodNamed } from '../../replaceme/methods/index.js';
import { familyData } from '../familyData.js';
import { maxAbsError, rejectsWith } from '../gpu.js';

const device = await Device.open();
test.after(() => device.close());

const sequence = (seed: number, length: number): number[] =>
  Array.from({ length }, (_, i) => 3 + ((seed * 17 + i * i * 5 + i * seed) % 57));

/** Hidden states after the last layer, a list for each row. */
async function statesOf(model: Model, batch: Batch, cache?: KvCache): Promise<Float32Array[]> {
  using states = forward(model, batch, cache ? { cache } : {});
  const values = await downloadF32(states);
  const { hidden } = model.arch;
  return Array.from({ length: states.rowCount }, (_, row) => values.slice(row * hidden, (row + 1) * hidden));
}

async function statesAlone(model: Model, ids: readonly number[]): Promise<Float32Array[]> {
  using batch = new Batch(device, [ids]);
  return statesOf(model, batch);
}

function requireEqual(found: readonly Float32Array[], expected: readonly Float32Array[], what: string): void {
  assert.is(found.length, expected.length, what);
  const error = Math.max(...found.map((row, i) => maxAbsError(row, expected[i]!)));
  assert.ok(error <= 1e-4, `${what}: states differ by ${error}`);
}

for (const family of ['lfm2', 'lfm2-bias', 'qwen3_5_text']) {
  test(`${family}: packed, padded and with shared prefixes, sequences give what they give alone`, async () => {
    await using model = await Model.load(device, (await familyData(family)).folder);
    const sequences = [sequence(1, 9), sequence(2, 1), sequence(3, 14)];
    const alone = await Promise.all(sequences.map(ids => statesAlone(model, ids)));
    using packed = new Batch(device, sequences);
    requireEqual(await statesOf(model, packed), alone.flat(), 'packed');

    const lengths = [9, 1, 5];
    using padded = new Batch(device, sequences, { lengths });
    const states = await statesOf(model, padded);
    for (const [s, rows] of padded.rowsOf.entries()) {
      const real = rows.slice(0, lengths[s]).map(row => states[row]!);
      requireEqual(real, alone[s]!.slice(0, lengths[s]), `padded sequence ${s}`);
    }

    const [long] = sequences.slice(2);
    const alike = [long!, [...long!.slice(0, 6), 7, 8, 9], [...long!.slice(0, 6), 7, 11]];
    using shared = new Batch(device, alike, { shared: [0, 6, 7] });
    assert.is(shared.tokens, 14 + 3 + 1);
    const all = await statesOf(model, shared);
    for (const [s, rows] of shared.rowsOf.entries()) {
      const expected = await statesAlone(model, alike[s]!);
      requireEqual(
        rows.map(row => all[row]!),
        expected,
        `shared sequence ${s}`,
      );
    }
  });

  test(`${family}: a cache goes on in pieces of any length, grows, and is copied`, async () => {
    await using model = await Model.load(device, (await familyData(family)).folder);
    const ids = sequence(4, 15);
    const whole = await statesAlone(model, ids);
    using cache = new KvCache(device, model.arch, 2, 2);
    let found: Float32Array[] = [];
    for (const [from, to] of [
      [0, 2],
      [2, 3],
      [3, 8],
      [8, 14],
    ]) {
      cache.resize(0, to!);
      using batch = new Batch(device, [ids.slice(from, to)], { places: cache.places([0]) });
      found = [...found, ...(await statesOf(model, batch, cache))];
    }
    requireEqual(found, whole.slice(0, 14), 'in pieces');
    cache.resize(0, 15);
    cache.resize(1, 15);
    cache.copy(0, 1);
    using side = new Batch(device, [[ids[14]!], [ids[14]! + 1]], { places: cache.places([1, 0]) });
    const [same, other] = await statesOf(model, side, cache);
    requireEqual([same!], whole.slice(14), 'in the copy');
    const changed = await statesAlone(model, [...ids.slice(0, 14), ids[14]! + 1]);
    requireEqual([other!], changed.slice(14), 'in the original');
    await rejectsWith(() => cache.copy(0, 1, 14), 'INVALID_ARGUMENT');
    assert.is(cache.truncate(15, 0), 15);
    assert.is(cache.truncate(14, 0), 0, 'a memory cannot go back');
  });
}

test('a conversation goes on from its states, and begins again where it differs', async () => {
  const golden = await familyData('qwen3_5_text');
  await using model = await Model.load(device, golden.folder);
  const prompt = golden.ids.slice(0, 10);
  using session = new DecodingSession(model);
  const take = async (ids: readonly number[], maxTokens: number) => {
    const tokens: number[] = [];
    const text = session.continue(ids, { maxTokens });
    for await (const token of text) tokens.push(token);
    return { tokens, reused: text.reused };
  };
  const first = await take(prompt, 4);
  assert.equal(first, { tokens: golden.greedy.slice(0, 4), reused: 0 });
  const next = await take([...prompt, ...first.tokens], 4);
  assert.equal(next, { tokens: golden.greedy.slice(4), reused: 13 });
  assert.equal(await take(prompt, 8), { tokens: golden.greedy, reused: 0 });
  const requests = [prompt, prompt.slice(0, 4), prompt].map(ids => ({ prompt: ids, maxTokens: 8, seed: 1 }));
  const [together, , again] = await generateTogether(model, requests);
  assert.equal([together, again], [golden.greedy, golden.greedy]);
});

test('gradients and sums of different layers are refused', async () => {
  await using model = await Model.load(device, (await familyData('lfm2')).folder);
  using batch = new Batch(device, [sequence(1, 4)]);
  using targets = tensorFrom(device, new Uint32Array(4));
  using weights = tensorFrom(device, new Float32Array(4));
  const none = { layers: new Map() };
  const message = await rejectsWith(
    () => lossAndGradients(model, batch, { kind: 'lm', targets }, weights, weights, none),
    'UNSUPPORTED_FAMILY',
  );
  assert.match(message, /no backward pass/);
  assert.match(methodNamed('laco').refusal!(model.arch)!, /several kinds/);
});

test('a pruned config.json lists the kinds of the layers that stay', () => {
  const sizes = {
    ...{ vocab_size: 64, hidden_size: 24, num_attention_heads: 4, num_key_value_heads: 2 },
    ...{ intermediate_size: 20, max_position_embeddings: 64 },
  };
  const lfm2 = { model_type: 'lfm2', ...sizes, num_hidden_layers: 6, full_attn_idxs: [2, 5] };
  const cut = pruneConfig(lfm2, [0, 2, 3, 5]);
  assert.equal([cut.num_hidden_layers, cut.full_attn_idxs], [4, [1, 3]]);
  const qwen = { model_type: 'qwen3_5_text', ...sizes, num_hidden_layers: 8, full_attention_interval: 4 };
  const ruled = pruneConfig(qwen, [0, 3, 4, 5, 7]);
  assert.equal(ruled.layer_types, [
    ...['linear_attention', 'full_attention', 'linear_attention', 'linear_attention', 'full_attention'],
  ]);
  assert.not('full_attention_interval' in ruled);
  assert.equal(pruneConfig(qwen, [0, 1, 2, 3]).full_attention_interval, 4);
});

test.run();
