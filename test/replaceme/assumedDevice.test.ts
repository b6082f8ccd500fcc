// Plans for devices that are not here, of models of which there is config.json alone. No device is opened. A few seconds.
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { writeSyntheticCheckpoint } from '../../bench/syntheticCheckpoint.js';
import type { DeviceFacts } from '../../engine/index.js';
import { defaultBatchTokens, readArchitecture } from '../../model/index.js';
import { type PlanOptions, planPrune } from '../../replaceme/index.js';
import {
  type AssumedDevice,
  assumedDevice,
  type DescribedDevice,
  factsOf,
} from '../../replaceme/planning/assumedDevice.js';
import { planRun } from '../../replaceme/planning/plan.js';
import { judgingFlops } from '../../replaceme/planning/selectionFlops.js';
import { checkPruneRequest } from '../../replaceme/request/request.js';
import { groupTokens } from '../../replaceme/windowMap/groupTokens.js';
import { tiles } from '../../replaceme/windowMap/layerTile.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder, writeFiles } from '../support.js';

const llama8B = {
  ...{ architectures: ['LlamaForCausalLM'], model_type: 'llama', hidden_act: 'silu', rms_norm_eps: 1e-5 },
  ...{ hidden_size: 4096, intermediate_size: 14336, num_hidden_layers: 32, vocab_size: 128_256 },
  ...{ num_attention_heads: 32, num_key_value_heads: 8, max_position_embeddings: 8192 },
  ...{ rope_theta: 500_000, tie_word_embeddings: false, torch_dtype: 'bfloat16' },
};
const card = (gigabytes: number, more: Partial<DescribedDevice> = {}): DescribedDevice => ({
  ...{ name: `a card of ${gigabytes} GB`, memory: gigabytes * 1e9, matmulGflops: 4e4, uploadGigabytes: 4 },
  ...more,
});

function workplace() {
  const folder = temporaryFolder();
  writeFiles(folder.path, { 'model/config.json': llama8B });
  const model = join(folder.path, 'model');
  const plan = (assume: AssumedDevice, options: PlanOptions = {}) =>
    planPrune(model, { layers: 8, assume, ...options });
  return { ...folder, model, plan };
}

test('Llama-3-8B on 80 GB: everything stays, one walk of the window map, states kept', async () => {
  using place = workplace();
  const { memory, placement, tokens, batchTokens } = await place.plan(card(80));
  assert.equal([placement.weights, placement.states.place], ['device', 'device']);
  assert.is(tokens, 131_072);
  assert.ok(batchTokens >= 4096 && batchTokens <= 8192, `${batchTokens}`);
  // Outputs of 32 layers of the 32,768 tokens that the map and the candidates are fitted on.
  assert.is(memory.hiddenStates, 4 * 4096 * 32 * 32_768);
  const arch = await readArchitecture(place.model);
  assert.equal(tiles(31, 8, 128, 4096, memory.selectionSpare), [[0, 31]]);
  // States between all layers of the 16,384 tokens that judge.
  assert.is(memory.selectionSpare, 4 * 4096 * 31 * 16_384);
  const facts = factsOf(card(80));
  assert.ok(
    groupTokens(facts, arch) >= batchTokens,
    'whole batches go through the map, so that states are kept',
  );
  assert.ok(1.05 * memory.total <= 0.9 * 80e9);
  const weights =
    2 * (2 * 128_256 * 4096 + 4096 + 32 * (2 * 4096 + 2 * 4096 ** 2 + 2 * 4096 * 1024 + 3 * 4096 * 14_336));
  assert.ok(memory.weights / weights - 1 < 0.001, `${memory.weights} for ${weights}`);
});

test('two rounds take half of the operations of judging all candidates in full', async () => {
  using place = workplace();
  const options = { layers: 8 };
  const request = await checkPruneRequest(place.model, undefined, options, 'described');
  const run = await planRun(place.model, options, request, factsOf(card(80)));
  const rounds = run.selecting.rounds!;
  assert.is(rounds.sets.length, 16);
  const inRounds = (finalists: number) => {
    const selecting = { ...run.selecting, rounds: { ...rounds, finalists } };
    const { candidates, finalists: last } = judgingFlops({ ...run, selecting })!;
    return candidates + last;
  };
  const ratio = inRounds(rounds.finalists) / inRounds(16);
  assert.ok(ratio <= 0.5, `${ratio}`);
});

test('every size gets a plan that keeps to 0.9 of the card', async () => {
  using place = workplace();
  const placements = [];
  for (const gigabytes of [141, 80, 48, 24, 16]) {
    const { memory, placement } = await place.plan(card(gigabytes));
    assert.ok(1.05 * memory.total <= 0.9e9 * gigabytes + 1, `${memory.total} of ${gigabytes}`);
    placements.push(placement.weights);
  }
  assert.equal(placements.slice(0, 3), ['device', 'device', 'device']);
  assert.is.not(placements.at(-1), 'device');
});

test('tokens held out are capped, and the user’s limit counts', async () => {
  using place = workplace();
  const million = { tokens: 8_000_000, memoryLimit: 130e9 };
  const { phases, memory } = await place.plan(card(141), million);
  assert.ok(1.05 * memory.total <= 130e9 + 1);
  const select = phases.find(({ name }) => name === 'select')!;
  assert.ok(select.flops < 2e16, `${select.flops}`);
});

test('the host’s memory is planned too, and what would fit is said with numbers', async () => {
  using place = workplace();
  const few = { ...card(24), hostMemory: 12e9 };
  const wanted = { select: 'cosine', tokens: 1_000_000 };
  const failure = await place.plan(few, wanted).catch((error: Error & { fix: string }) => error);
  assert.instance(failure, Error);
  const { message, fix } = failure as Error & { fix: string };
  assert.match(message, /of host memory, .* for the hidden states of 1000000 tokens; 11\.2 GiB are free/);
  const [, fewer] = /`tokens: (\d+)`/.exec(fix)!;
  await place.plan(few, { ...wanted, tokens: Number(fewer) });
  const enough = await place.plan(card(24), wanted);
  assert.is(enough.placement.states.place, 'host');
  // Half of it is enough for bf16 states.
  const half = 0.6 * enough.memory.host;
  const offered = await place.plan(card(24, { hostMemory: half }), wanted).catch(error => error);
  assert.match(offered.fix, /`hostStates: bf16` \(/);
  await place.plan(card(24, { hostMemory: half }), { ...wanted, hostStates: 'bf16' });
});

test('a plan from config.json is that of the checkpoint', async () => {
  using folder = temporaryFolder();
  const model = join(folder.path, 'model');
  const shape = { layers: 4, hidden: 128, intermediate: 512, heads: 4, vocab: 300 };
  await writeSyntheticCheckpoint(model, shape);
  const whole = await planPrune(model, { layers: 1, assume: card(24) });
  for (const name of readdirSync(model).filter(name => name.includes('safetensors')))
    rmSync(join(model, name));
  assert.equal(await planPrune(model, { layers: 1, assume: card(24) }), whole);
  await rejectsWith(() => planPrune(model, { layers: 1 }), 'CHECKPOINT_MISSING');
});

test('rows of a batch: thousands on a GPU, as many as can be bound', async () => {
  using place = workplace();
  const arch = await readArchitecture(place.model);
  const facts = (kind: 'gpu' | 'software', maxStorageBufferBindingSize: number): DeviceFacts => ({
    ...factsOf(card(80)),
    ...{ info: { kind, description: '' }, limits: { maxStorageBufferBindingSize } },
  });
  assert.is(defaultBatchTokens(facts('gpu', 2 ** 31), arch), 8192);
  assert.is(defaultBatchTokens(facts('gpu', 2 ** 27), arch), Math.floor(2 ** 27 / 4 / 14_336));
  assert.is(defaultBatchTokens(facts('software', 2 ** 31), arch), 1024);
});

test('cards by name and by file; what is wrong with either is said', async () => {
  using folder = temporaryFolder();
  assert.is((await assumedDevice('H100')).memory, 81_559 * 2 ** 20);
  const path = join(folder.path, 'card.json');
  const content = { name: 'x', memory: '24GB', matmulGflops: 1e4, uploadGigabytes: 5, hostMemory: 64e9 };
  writeFileSync(path, JSON.stringify(content));
  assert.equal(await assumedDevice(path), { ...content, memory: 24e9 });
  writeFileSync(path, JSON.stringify({ ...content, memory: 'much' }));
  await rejectsWith(() => assumedDevice(path), 'DATA_INVALID');
  writeFileSync(path, JSON.stringify({ ...content, matmulGflops: 0 }));
  await rejectsWith(() => assumedDevice(path), 'DATA_INVALID');
  await rejectsWith(() => assumedDevice('h1000'), 'INVALID_ARGUMENT');
});

test.run();
